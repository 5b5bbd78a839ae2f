"""Whether a release may serve: judged by what was measured of it beside the one that serves, and told in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from control.lifecycle.answers import cosine, distance, embedding, likely, ranking, wrong
from control.lifecycle.figures import AFTER_LONG, GENERATION, PROMPTS, figures, paired, timed
from control.lifecycle.measurements import Measurements
from control.lifecycle.requests import EMBEDDING, GENERATED, LIKELY, LONG, RANKING, SHORT
from control.lifecycle.spread import Spread
from inventory.upgrade import UpgradeLimits
from roles.llama_cpp.measuring import Name
from roles.speed import number

Verdict = Literal["pass", "fail", "inconclusive"]

OTHER_WORDS = 0.5
"""From this distance on (control.lifecycle.answers.distance) a release has other words in mind. Another order of the same sums moves it by
some hundredths, even with a quantized KV cache; a device that computes wrongly by nearly 1."""
SAME_VECTOR = 0.98
"""The least cosine of two embeddings of one text: below it what was indexed with the one is not found with the other."""
SHORT_OF_MEMORY = ("too little memory is free", "the host is short of memory")
"""In what resources/trial.sh says of a server that ended: beside the others there is no room for it, which is nobody's fault."""
BOASTS = 1.25
"""How much faster than measured a server's own timings may be, before that is told."""


@dataclass(frozen=True)
class Finding:
    """`told` is what a person should know, and what decides nothing. `answer` is what the canary has answered, where that is what fails."""

    verdict: Literal["pass", "fail", "inconclusive", "told"]
    words: str
    answer: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Judgement:
    """`reached` is what the canary did, in tokens a second, by PROMPTS, GENERATION and AFTER_LONG; the prompts had so many `tokens`. `log`
    is the end of what its server has written."""

    findings: tuple[Finding, ...]
    reached: Mapping[str, Spread]
    tokens: int = 0
    log: bytes = field(default=b"", repr=False)

    @property
    def verdict(self) -> Verdict:
        found = {each.verdict for each in self.findings}
        return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"

    @property
    def causes(self) -> tuple[str, ...]:
        """Why it is not a pass."""
        return tuple(each.words for each in self.findings if each.verdict == self.verdict != "pass")


def judge(found: Measurements, limits: UpgradeLimits, baseline: str) -> Judgement:
    """`baseline` is what the release that serves is called: `0.3.34`."""
    ends = tuple(_ends(found, baseline))
    if ends:
        return Judgement(ends, {}, log=found.log)
    measured = tuple(figures(found, limits))
    of_figures = (*_off_the_cards(found, baseline), *(Finding(each.verdict, each.words(baseline)) for each in measured))
    if not measured:
        of_figures = (Finding("inconclusive", "nothing was measured of it"),)
    reached = {each.what: each.canary for each in measured if each.what in (PROMPTS, GENERATION, AFTER_LONG)}
    tokens = round(next((each.tokens for each in measured if each.what == PROMPTS), 0))
    all_found = (*_wrong(found, baseline), *_meant(found, baseline), *of_figures, *_told(found, baseline))
    return Judgement(all_found, reached, tokens, found.log)


def _ends(found: Measurements, baseline: str) -> Iterator[Finding]:
    """What ended before it was measured."""
    for each in found.gone:
        if each.side == "canary":
            yield Finding("inconclusive" if any(words in each.words for words in SHORT_OF_MEMORY) else "fail", each.words)
        else:
            yield Finding("inconclusive", f"{baseline} itself cannot be measured: {each.words}")


def _off_the_cards(found: Measurements, baseline: str) -> Iterator[Finding]:
    """A release that does not find its device says nothing of it, and computes on the processor."""
    held = {side: max((each.card_kib for _, each in found.memory if each.side == side), default=0) for side in ("baseline", "canary")}
    if held["baseline"] and not held["canary"]:
        words = f"cards: it holds nothing on them, {baseline} holds {number(held['baseline'] / 1024)} MiB"
        yield Finding("fail", f"{words}: it computes on the processor")


def _wrong(found: Measurements, baseline: str) -> Iterator[Finding]:
    """What the canary does wrongly, request by request."""
    for ask in dict.fromkeys(each.ask for _, each in found.answers):
        answers: dict[Name, list[tuple[str, bytes]]] = {"baseline": [], "canary": []}
        for _, each in found.answers:
            if each.ask == ask:
                answers[each.side].append((wrong(each), each.answer))
        faults = [(words, answer) for words, answer in answers["canary"] if words]
        before = [words for words, _ in answers["baseline"] if words]
        if faults and before:
            yield Finding("told", f"{ask}: fails with {baseline} too: {faults[0][0]}")
        elif faults:
            count = f" ({len(faults)} of {len(answers['canary'])} times)" if len(answers["canary"]) > 1 else ""
            words, answer = faults[0]
            yield Finding("fail", f"{ask}: {words}{count}; {baseline} does it", answer)
        elif not before:
            yield Finding("pass", f"{ask}: as with {baseline}")


def _meant(found: Measurements, baseline: str) -> Iterator[Finding]:
    """Answers of the right form that mean something else."""
    if words := [_otherwise(*pair) for pair in paired(found, LIKELY, likely).values()]:
        if (far := median(words)) > OTHER_WORDS:
            answer = next(each.answer for _, each in found.answers if (each.ask, each.side) == (LIKELY, "canary"))
            yield Finding("fail", f"nonsense: {far:.0%} of what it thinks likely is not what {baseline} does", answer)
        else:
            yield Finding("pass", f"likely words: {1 - far:.0%} as with {baseline}")
    if cosines := [cosine(*pair) for pair in paired(found, EMBEDDING, embedding).values()]:
        verdict: Verdict = "pass" if median(cosines) >= SAME_VECTOR else "fail"
        yield Finding(verdict, f"embedding: a cosine of {median(cosines):.3f} to that of {baseline} (at least {SAME_VECTOR})")
    if any(old != new for old, new in paired(found, RANKING, ranking).values()):
        yield Finding("told", f"ranking: it is not the one of {baseline}")


def _otherwise(old: list[Mapping[int, float]], new: list[Mapping[int, float]]) -> float:
    """How far apart the likely words are, on average over the places up to the first where they choose another one."""
    distances = []
    for one, other in zip(old, new, strict=False):
        distances.append(distance(one, other))
        if max(one, key=one.__getitem__) != max(other, key=other.__getitem__):
            break
    return sum(distances) / len(distances)


def _told(found: Measurements, baseline: str) -> Iterator[Finding]:
    """Other texts, which samplers that have changed make, and timings that are not true."""
    pairs = [*timed(found, SHORT), *timed(found, LONG)]
    other = sum(old.said.text != new.said.text for old, new in pairs)
    if other:
        yield Finding("told", f"text: {other} of {len(pairs)} seeded answers are not those of {baseline}")
    if long := [new for _, new in timed(found, LONG)]:
        yield from _boast("prompts", [(each.said.claimed_prompt, each.said.prompt / each.first_s) for each in long])
        yield from _boast("generation", [(each.said.claimed_generation, (GENERATED - 1) / each.rest_s) for each in long])


def _boast(what: str, speeds: list[tuple[float, float]]) -> Iterator[Finding]:
    claimed, was = (median(each) for each in zip(*speeds, strict=True))
    if claimed > BOASTS * was:
        yield Finding("told", f"timings: it says {number(claimed)} tokens/s of {what}, {number(was)} were measured")

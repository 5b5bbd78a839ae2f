"""The figures that two releases are compared by, each out of pairs that were measured right after one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeVar

from control.lifecycle.answers import Streamed, WrongAnswer, body_of, streamed
from control.lifecycle.measurements import Answer, Measurements
from control.lifecycle.requests import EMBEDDED, GENERATED, LOAD, LONG, SHORT, SWAP, SWAP_BACK
from control.lifecycle.spread import Spread, spread
from inventory.upgrade import UpgradeLimits
from roles.llama_cpp.measuring import Name
from roles.speed import number

PROMPTS, GENERATION, AFTER_LONG = "prompts", "generation", "generation after a long prompt"

START_SLACK_S, ANSWER_SLACK_S, MEMORY_SLACK_MIB = 1.0, 0.02, 64.0
"""What never counts, however much it is in percent: nobody waits for it, and a busy machine or an allocator makes as much of it."""

Key = tuple[int, int, int]
"""Run, pass and round."""

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """A figure of both releases, in seconds or in MiB, the baseline's first in each pair. With `tokens` it is a speed: so many of them in
    that time. `limit` is in percent; what is more than before by no more than `slack` never counts. It takes `least` pairs to say that the
    canary is worse."""

    what: str
    unit: Literal["s", "MiB", "tokens/s"]
    pairs: tuple[tuple[float, float], ...]
    limit: int
    slack: float
    least: int = 6
    tokens: float = 0

    @property
    def ratio(self) -> Spread:
        """The canary's, of the baseline's."""
        return spread([old / new if self.tokens else new / old for old, new in self.pairs])

    @property
    def canary(self) -> Spread:
        return spread([self.tokens / new if self.tokens else new for _, new in self.pairs])

    @property
    def baseline(self) -> Spread:
        return spread([self.tokens / old if self.tokens else old for old, _ in self.pairs])

    @property
    def verdict(self) -> Literal["pass", "fail", "inconclusive"]:
        """By where the interval of the ratio lies: all of it within the limit, all beyond it, or across it."""
        ratio, bound = self.ratio, 1 + (-self.limit if self.tokens else self.limit) / 100
        within, beyond = (ratio.low >= bound, ratio.high < bound) if self.tokens else (ratio.high <= bound, ratio.low > bound)
        if within or median(new - old for old, new in self.pairs) <= self.slack:
            return "pass"
        return "fail" if beyond and ratio.count >= self.least else "inconclusive"

    def words(self, baseline: str) -> str:
        """`prompts: 61 tokens/s against 92 of 0.3.34 (-34 %, limit -15 %)`"""
        ratio, limit = self.ratio, f"limit {'-' if self.tokens else '+'}{self.limit} %"
        values = f"{self.what}: {number(self.canary.middle)} {self.unit} against {number(self.baseline.middle)} of {baseline}"
        if self.verdict != "inconclusive":
            return f"{values} ({_percent(ratio.middle)} %, {limit})"
        between = f"between {_percent(ratio.low)} % and {_percent(ratio.high)} % ({limit})"
        return f"{values}, {between}: {ratio.count} pairs do not decide it"


def figures(found: Measurements, limits: UpgradeLimits) -> Iterator[Figure]:
    """Those that were measured, in the order of a server's life."""
    slower, late, long, large = (int(each.rstrip("%")) for each in (limits.slower, limits.first_token, limits.start, limits.memory))
    yield from _figure("start", _started(found), long, START_SLACK_S, least=4)
    yield from _figure("loading a model", _totals(found, LOAD), long, START_SLACK_S, least=4)
    yield from _figure("swapping models", (*_totals(found, SWAP), *_totals(found, SWAP_BACK)), long, START_SLACK_S, least=4)
    short, after_long = timed(found, SHORT), timed(found, LONG)
    first = [[(old.first_s, new.first_s) for old, new in pairs] for pairs in (short, after_long)]
    yield from _figure("first token", first[0], late, ANSWER_SLACK_S)
    if after_long:
        tokens = median(old.said.prompt for old, _ in after_long)
        yield from _figure(PROMPTS, first[1], slower, ANSWER_SLACK_S, tokens=tokens)
    for what, pairs in ((GENERATION, short), (AFTER_LONG, after_long)):
        rest = [(old.rest_s, new.rest_s) for old, new in pairs]
        yield from _figure(what, rest, slower, ANSWER_SLACK_S, tokens=GENERATED - 1)
    yield from _figure("embeddings and rankings", _totals(found, EMBEDDED), slower, ANSWER_SLACK_S)
    yield from _figure("memory of the host", _held(found, "host_kib"), large, MEMORY_SLACK_MIB, "MiB", least=2)
    yield from _figure("memory of the cards", _held(found, "card_kib"), large, MEMORY_SLACK_MIB, "MiB", least=2)


def paired(found: Measurements, ask: str, read: Callable[[Answer], T]) -> Mapping[Key, tuple[T, T]]:
    """What both answered to one request, where both are right; round 0 of what is timed is there to warm up, and left out."""
    sides: dict[Name, dict[Key, T]] = {"baseline": {}, "canary": {}}
    for run, each in found.answers:
        if each.ask != ask or (each.round == 0 and ask in (SHORT, LONG, EMBEDDED)):
            continue
        try:
            sides[each.side][run, each.pass_, each.round] = read(each)
        except WrongAnswer:
            continue
    canary = sides["canary"]
    return {key: (each, canary[key]) for key, each in sides["baseline"].items() if key in canary}


@dataclass(frozen=True)
class Timed:
    """A streamed answer as it came: its first token after `first_s`, the others within `rest_s` more."""

    said: Streamed
    first_s: float
    rest_s: float


def timed(found: Measurements, ask: str) -> Sequence[tuple[Timed, Timed]]:
    """The streamed answers to one request, in pairs."""
    return tuple(paired(found, ask, _timed).values())


def _timed(answer: Answer) -> Timed:
    said = streamed(answer)
    if not answer.first_s or not said.prompt:
        raise WrongAnswer("nothing of it was timed")
    # All at once is no infinite speed: the clock has microseconds.
    return Timed(said, answer.first_s, max(answer.last_s - answer.first_s, 1e-6))


def _total(answer: Answer) -> float:
    body_of(answer)
    return answer.total_s


def _totals(found: Measurements, ask: str) -> Sequence[tuple[float, float]]:
    return tuple(paired(found, ask, _total).values())


def _started(found: Measurements) -> Sequence[tuple[float, float]]:
    took = {(run, each.pass_, each.side): each.seconds for run, each in found.started}
    return [(each, took[run, at, "canary"]) for (run, at, side), each in took.items() if side == "baseline" and (run, at, "canary") in took]


def _held(found: Measurements, attribute: Literal["host_kib", "card_kib"]) -> Sequence[tuple[float, float]]:
    held = {(run, each.pass_, each.side): getattr(each, attribute) / 1024 for run, each in found.memory}
    return [(each, held[run, at, "canary"]) for (run, at, side), each in held.items() if side == "baseline" and (run, at, "canary") in held]


def _figure(
    what: str,
    pairs: Sequence[tuple[float, float]],
    limit: int,
    slack: float,
    unit: Literal["s", "MiB"] = "s",
    *,
    least: int = 6,
    tokens: float = 0,
) -> Iterator[Figure]:
    """None where nothing was measured; what cannot be 0 and is 0, was not."""
    measured = tuple(pair for pair in pairs if all(pair))
    if measured:
        yield Figure(what, "tokens/s" if tokens else unit, measured, limit, slack, least, tokens)


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f}"

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

START_SLACK_S, FIRST_TOKEN_SLACK_S, MEMORY_SLACK_MIB = 1.0, 0.02, 64.0
"""What never counts, however much it is in percent: nobody waits for it, or it is what a clock or an allocator rounds to."""

Key = tuple[int, int, int]
"""Run, pass and round."""

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """A figure of both releases, the baseline's first in each pair. `limit` is in percent; `slack` is in `unit`. It takes `least` pairs to
    say that the canary is worse."""

    what: str
    unit: Literal["tokens/s", "s", "MiB"]
    pairs: tuple[tuple[float, float], ...]
    limit: int
    slack: float = 0.0
    least: int = 6

    @property
    def ratio(self) -> Spread:
        """The canary's, of the baseline's."""
        return spread([canary / baseline for baseline, canary in self.pairs])

    @property
    def verdict(self) -> Literal["pass", "fail", "inconclusive"]:
        """By where the interval of the ratio lies: all of it within the limit, all beyond it, or across it."""
        ratio, more = self.ratio, self.unit == "tokens/s"
        bound = 1 + (-self.limit if more else self.limit) / 100
        if ratio.low >= bound if more else ratio.high <= bound:
            return "pass"
        if not more and median(canary - baseline for baseline, canary in self.pairs) <= self.slack:
            return "pass"
        beyond = ratio.high < bound if more else ratio.low > bound
        return "fail" if beyond and ratio.count >= self.least else "inconclusive"

    def words(self, baseline: str) -> str:
        """`prompts: 61 tokens/s against 92 of 0.3.34 (-34 %, limit -15 %)`"""
        ratio, sign = self.ratio, "-" if self.unit == "tokens/s" else "+"
        old, new = (number(median(values)) for values in zip(*self.pairs, strict=True))
        limit = f"limit {sign}{self.limit} %"
        if self.verdict != "inconclusive":
            return f"{self.what}: {new} {self.unit} against {old} of {baseline} ({_percent(ratio.median)} %, {limit})"
        between = f"between {_percent(ratio.low)} % and {_percent(ratio.high)} % ({limit})"
        return f"{self.what}: {new} {self.unit} against {old} of {baseline}, {between}: {ratio.count} pairs do not decide it"


def figures(found: Measurements, limits: UpgradeLimits) -> Iterator[Figure]:
    """Those that were measured, in the order of a server's life."""
    slower, late, long, large = (int(each.rstrip("%")) for each in (limits.slower, limits.first_token, limits.start, limits.memory))
    yield from _figure("start", "s", _started(found), long, START_SLACK_S, 4)
    yield from _figure("loading a model", "s", _totals(found, LOAD), long, START_SLACK_S, 4)
    yield from _figure("swapping models", "s", (*_totals(found, SWAP), *_totals(found, SWAP_BACK)), long, START_SLACK_S, 4)
    short, after_long = (paired(found, ask, _timed) for ask in (SHORT, LONG))
    yield from _figure("first token", "s", [(old.first_s, new.first_s) for old, new in short.values()], late, FIRST_TOKEN_SLACK_S)
    yield from _figure("prompts", "tokens/s", [(old.prompts, old.prompt / new.first_s) for old, new in after_long.values()], slower)
    for what, pairs in (("generation", short), ("generation after a long prompt", after_long)):
        speeds = [(old.generation, new.generation) for old, new in pairs.values() if old.generation and new.generation]
        yield from _figure(what, "tokens/s", speeds, slower)
    embedded = paired(found, EMBEDDED, _total)
    yield from _figure("embeddings and rankings", "s", list(embedded.values()), slower)
    yield from _figure("memory of the host", "MiB", _held(found, "host_kib"), large, MEMORY_SLACK_MIB, 2)
    yield from _figure("memory of the cards", "MiB", _held(found, "card_kib"), large, MEMORY_SLACK_MIB, 2)


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
    """A streamed answer as it came: `prompt` tokens were read in `first_s`, `generation` is in tokens a second, 0 where it came at once."""

    said: Streamed
    first_s: float
    generation: float

    @property
    def prompt(self) -> int:
        return self.said.prompt

    @property
    def prompts(self) -> float:
        """Tokens a second, up to the first of the answer."""
        return self.prompt / self.first_s


def _timed(answer: Answer) -> Timed:
    said = streamed(answer)
    if not answer.first_s or not said.prompt:
        raise WrongAnswer("nothing of it was timed")
    took = answer.last_s - answer.first_s
    return Timed(said, answer.first_s, (GENERATED - 1) / took if took > 0 else 0.0)


def timed(found: Measurements, ask: str) -> Sequence[tuple[Timed, Timed]]:
    return tuple(paired(found, ask, _timed).values())


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
    unit: Literal["tokens/s", "s", "MiB"],
    pairs: Sequence[tuple[float, float]],
    limit: int,
    slack: float = 0.0,
    least: int = 6,
) -> Iterator[Figure]:
    measured = tuple(pair for pair in pairs if pair[0] > 0)
    if measured:
        yield Figure(what, unit, measured, limit, slack, least)


def number(value: float) -> str:
    """Three digits of it: `0.123`, `61`, `12,345`"""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f}"

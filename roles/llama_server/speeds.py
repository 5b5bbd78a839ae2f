"""How fast a host's servers are, held to the floor of what they reached, by llama-server's own timings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from roles.speed import CAUSES, TRIALS, Floor, number
from roles.wording import one_line, shortened

FIRST_TRIALS = 5
"""So many are kept of a server that was never measured, after one that warms it up."""
FIRST_TRIAL_S = 300
LEAST_TRIAL_S = 30
MOST = 1e8
"""Tokens a second that nothing reaches."""

Use = Literal["idle", "busy", "unknown"]


class TooSlow(Exception):
    """A trial that was not done in its time."""


class NoAnswer(Exception):
    """A trial whose answer says nothing of speed; in words."""


@dataclass(frozen=True)
class Trial:
    """Tokens a second, and the tokens of the prompt."""

    prompts: float
    generation: float
    tokens: int


def trial_of(answer: Any) -> Trial:
    """What llama-server says of a completion. Raises NoAnswer."""
    timings = answer.get("timings") if isinstance(answer, dict) else None
    named = [timings.get(each) for each in ("prompt_per_second", "predicted_per_second", "prompt_n")] if isinstance(timings, dict) else []
    prompts, generation, tokens = (
        float(each) if isinstance(each, int | float) and 0 < each < MOST else 0.0 for each in named or [None] * 3
    )
    if not (prompts and generation and tokens):
        error = answer.get("error") if isinstance(answer, dict) else None
        said = error.get("message") if isinstance(error, dict) else None
        raise NoAnswer(f"it answers a trial with an error: {one_line(shortened(str(said)))}" if said else "it tells no timings")
    return Trial(prompts, generation, round(tokens))


def uses(slots: Any) -> Use:
    """What the answer to /slots says; `unknown` where it is no list of slots."""
    if not isinstance(slots, list) or not slots or not all(isinstance(each, dict) for each in slots):
        return "unknown"
    return "busy" if any(each.get("is_processing") for each in slots) else "idle"


@dataclass(frozen=True)
class Tried:
    """One server with one model, as it is measured: `try_in` makes a trial within so many seconds, `in_use` says why none is to be made
    now, empty where one may be."""

    release: str
    mark: str
    unit: str
    model: str
    try_in: Callable[[float], Trial]
    in_use: Callable[[], str]

    @property
    def name(self) -> str:
        return f"{self.unit}, {self.model}"


def held(server: Tried, floor: Floor, tell: Callable[[str], None]) -> str:
    """What is wrong with its speed; empty where nothing is, or where it could not be measured, which is told. The best of TRIALS counts."""
    best: list[Trial] = []
    within = max(LEAST_TRIAL_S, 2 * floor.trial_s)
    for _ in range(TRIALS):
        if why := server.in_use():
            tell(f"{server.name}: its speed is not measured: {why}")
            return ""
        try:
            trial = server.try_in(within)
        except TooSlow:
            trial = Trial(0, 0, 0)
        except NoAnswer as error:
            tell(f"{server.name}: its speed is not measured: {error}")
            return ""
        best.append(trial)
        if all(found >= least for found, least in _beside(best, floor)):
            return ""
        if why := server.in_use():  # somebody came meanwhile
            tell(f"{server.name}: its speed is not measured: {why}")
            return ""
    (prompts, _), (generation, _) = _beside(best, floor)
    said = f"reads {number(prompts)} tokens/s of prompts and generates {number(generation)} at best" if prompts else "ends no trial"
    return f"{server.name}: {said} in {TRIALS} trials; {floor.words}. {_advice(server, floor)}"


def _beside(trials: list[Trial], floor: Floor) -> tuple[tuple[float, float], tuple[float, float]]:
    """The best that was found, beside what it is to be: of prompts, and of generation."""
    prompts, generation = max(each.prompts for each in trials), max(each.generation for each in trials)
    return (prompts, floor.prompts), (generation, floor.generation)


def _advice(server: Tried, floor: Floor) -> str:
    causes = f"The usual causes: {CAUSES}"
    if floor.reached.release != server.release:
        causes = f"{causes}, or {server.release} is worse"
    return f"{causes}. If it is to be so slow, `paddock verify --measure` notes it"


def measured(server: Tried, tell: Callable[[str], None]) -> list[Trial]:
    """FIRST_TRIALS of it; none where it could not be measured, which is told."""
    trials: list[Trial] = []
    for _ in range(1 + FIRST_TRIALS):
        try:
            why = server.in_use()
            if not why:
                trials.append(server.try_in(FIRST_TRIAL_S))
                why = server.in_use()
        except TooSlow:
            why = f"one trial takes more than {FIRST_TRIAL_S} s"
        except NoAnswer as error:
            why = str(error)
        if why:
            tell(f"{server.name}: its speed is not measured: {why}")
            return []
    return trials[1:]

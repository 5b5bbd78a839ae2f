"""How fast a host's servers are, held to the floor of what they reached, by llama-server's own timings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from roles.speed import CAUSES, TRIAL_TOKENS, TRIALS, Floor, number
from roles.wording import one_line, shortened

FIRST_TRIALS = 5
"""So many are kept of a server that was never measured, after one that warms it up."""
FIRST_TRIAL_S, ENOUGH_S = 300, 90
"""What a first trial may take, and all of them: of a slow server there are two."""
LEAST_TRIAL_S, FLOORS = 60, 5
"""What a trial may take at least, and how often what it takes at the floor: one that takes longer is so slow that no figure is needed."""
REST_S = 60
"""So long a server may go on with a trial that nobody waits for any more."""
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

    @property
    def takes_s(self) -> float:
        return self.tokens / self.prompts + TRIAL_TOKENS / self.generation


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


def uses(slots: Any, given_up: int = 0) -> Use:
    """What the answer to /slots says, `given_up` trials aside; `unknown` where it is no list of slots."""
    if not isinstance(slots, list) or not slots or not all(isinstance(each, dict) for each in slots):
        return "unknown"
    return "busy" if sum(bool(each.get("is_processing")) for each in slots) > given_up else "idle"


@dataclass(frozen=True)
class Tried:
    """One server with one model, as it is measured: `try_in` makes a trial within so many seconds, `in_use` says why none is to be made
    now, so many trials of it that were given up aside; empty where one may be."""

    release: str
    mark: str
    unit: str
    model: str
    try_in: Callable[[float], Trial]
    in_use: Callable[[int], str]
    pause: Callable[[], None] = lambda: None
    """Lets a second pass."""

    @property
    def name(self) -> str:
        return f"{self.unit}, {self.model}"


def held(server: Tried, floor: Floor, tell: Callable[[str], None]) -> str:
    """What is wrong with its speed; empty where nothing is, or where it could not be measured, which is told. The best of TRIALS counts."""
    best: list[Trial] = []
    within = max(LEAST_TRIAL_S, FLOORS * floor.trial_s)
    why = server.in_use(0)
    while not why and len(best) < TRIALS:
        given_up = 0
        try:
            best.append(server.try_in(within))
        except TooSlow:
            best.append(Trial(0, 0, 0))
            given_up = 1
        except NoAnswer as error:
            why = str(error)
            break
        if all(found >= least for found, least in _beside(best, floor)):
            return ""
        why = server.in_use(given_up)  # somebody may have come meanwhile
        if given_up and not why and not _rests(server):
            break
    if why:
        tell(f"{server.name}: its speed is not measured: {why}")
        return ""
    (prompts, _), (generation, _) = _beside(best, floor)
    found = f"reads {number(prompts)} tokens/s of prompts and generates {number(generation)}, at best in {len(best)} trials"
    said = found if prompts else f"does not end a trial in {within:.0f} s"
    return f"{server.name}: {said}; {floor.words}. {_advice(server, floor)}"


def _rests(server: Tried) -> bool:
    """Whether it is done in time with a trial that was given up."""
    for _ in range(REST_S):
        if not server.in_use(0):
            return True
        server.pause()
    return False


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
    """FIRST_TRIALS of it, or fewer of a slow one; none where it could not be measured, which is told."""
    trials: list[Trial] = []
    why = server.in_use(0)
    while not why and len(trials) < 1 + FIRST_TRIALS:
        try:
            trials.append(server.try_in(FIRST_TRIAL_S))
            why = server.in_use(0)
        except TooSlow:
            why = f"one trial takes more than {FIRST_TRIAL_S} s"
        except NoAnswer as error:
            why = str(error)
        if len(trials) > 2 and sum(each.takes_s for each in trials) > ENOUGH_S:
            break
    if why:
        tell(f"{server.name}: its speed is not measured: {why}")
        return []
    return trials[1:]

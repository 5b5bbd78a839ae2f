"""How fast a llama-server is: what it is asked to find that out, and the floor below which it must not be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from resources import Reached
from roles.preset import Preset, purpose
from roles.server import Server

LONG_CHARACTERS, LEAST_CHARACTERS = 2400, 64
"""A long prompt is about 600 tokens. Where a slot's context is small it is shorter: at worst each character is a token."""

STORY = (
    "The ferry left the harbour an hour late. A man on the upper deck counted the gulls and wrote their number into a small book. "
    "Below, two children had found a map, and argued which of the islands was the largest. Nobody had told them that the map was older "
    "than the lighthouse. When the rain came, the captain slowed the engines and sounded the horn. On shore, a dog barked back. "
    "The cook brought soup to everybody, and sat down beside the stove to read the news of last week. "
)

TRIAL_TOKENS = 32
"""What a trial generates."""
TRIALS = 3
"""So many trials below the floor say that a server is too slow. The best counts: what else the machine does makes some slow, none fast."""

CAUSES = "its card is lost or held back by heat or power, or another program uses it"


def slot_context(preset: Mapping[str, object]) -> int | None:
    """The context of a slot, in tokens; None where the inventory does not say it."""
    context, slots = (preset.get(option) for option in ("ctx-size", "parallel"))
    if not isinstance(context, int) or context <= 0:
        return None
    return context // slots if isinstance(slots, int) and slots > 1 else context


def characters(context: int | None) -> int:
    """Of a long prompt for a slot with so much context."""
    return min(LONG_CHARACTERS, max(LEAST_CHARACTERS, context // 2)) if context else LONG_CHARACTERS


def long_prompt(context: int | None) -> str:
    return (STORY * (-(-LONG_CHARACTERS // len(STORY))))[: characters(context)]


def trial(model: str, preset: Preset, number: int) -> tuple[str, dict[str, Any]]:
    """The path to post to and the body. No server has a part of the prompt from before, where each trial has a `number` of its own."""
    body = {"prompt": f"Story {number}. {long_prompt(slot_context(preset))}", "n_predict": TRIAL_TOKENS, "ignore_eos": True}
    exact = {"temperature": 0, "seed": 1, "cache_prompt": False, "response_fields": ["timings"]}
    return "/completion?autoload=false", {"model": model, **body, **exact}


def is_timed(server: Server, preset: Preset) -> bool:
    """Whether a trial tells of this host's speed: not of a model that does not generate, nor where other hosts compute."""
    return purpose(preset) == "chat" and not server.workers


def mark(server: Server, model: str, source: object, preset: Preset) -> str:
    """Tells the way in which a server serves a model from others: with another file, preset or card its speed may be another."""
    options = sorted((option, str(value)) for option, value in preset.items())
    what = [server.unit, model, str(source), options, [str(each) for each in server.gpus]]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Floor:
    """What a server must not be slower than, in tokens a second: a `share`, in percent, of what it reached."""

    reached: Reached
    share: int

    @property
    def prompts(self) -> float:
        return self.reached.prompts.middle * self.share / 100

    @property
    def generation(self) -> float:
        return self.reached.generation.middle * self.share / 100

    @property
    def trial_s(self) -> float:
        """What a trial takes that is just as fast."""
        return self.reached.tokens / self.prompts + TRIAL_TOKENS / self.generation

    @property
    def words(self) -> str:
        """`with 0.3.36-1f0c it reached 1,812 and 92: the floor is 50 % of that, 906 and 46`"""
        found = self.reached
        reached = f"with {found.release} it reached {number(found.prompts.middle)} and {number(found.generation.middle)}"
        return f"{reached}: the floor is {self.share} % of that, {number(self.prompts)} and {number(self.generation)}"


class Speeds(Protocol):
    """What the fleet knows of how fast a host's servers were, and who keeps what is found out about that."""

    known: Sequence[Reached]
    anew: bool
    """Whether to measure also what is known."""

    def tell(self, words: str) -> None: ...

    def keep(self, reached: Reached) -> None: ...


def number(value: float) -> str:
    """Three digits of it: `0.123`, `61`, `12,345`"""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"

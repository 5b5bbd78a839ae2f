"""What a host would say of two releases whose speeds are known, with the noise that real hosts have."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from control.lifecycle.measurements import Measurements
from control.lifecycle.requests import GENERATED, LIKELY, LONG, SHORT

PROMPT = {SHORT: 12, LONG: 600}

PLACES = [{"id": 7, "top_logprobs": [{"id": 7, "logprob": -0.2}, {"id": 8, "logprob": -2.0}]}]
OTHERS = [{"id": 70, "top_logprobs": [{"id": 70, "logprob": -0.2}, {"id": 80, "logprob": -2.0}]}]


@dataclass
class Release:
    """Speeds in tokens a second; `said` is ask → body of what it answers otherwise, `status` ask → its HTTP status."""

    prompts: float = 400.0
    generation: float = 40.0
    start_s: float = 3.0
    memory_mib: float = 4000.0
    card_mib: float = 0.0
    claims: float = 1.0
    text: str = "word"
    said: dict[str, Any] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)


@dataclass
class Simulated:
    """`noise` is the standard deviation of the logarithm of each time. What else runs on the host slows both sides of a round, by up to
    `load`; one time in twenty something takes twice as long."""

    canary: Release
    baseline: Release = field(default_factory=Release)
    noise: float = 0.05
    load: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def lines(self, rounds: int) -> Iterator[str]:
        """One run, as resources/measure.sh prints it."""
        sides = {"baseline": self.baseline, "canary": self.canary}
        for at in (1, 2):
            for name, release in sides.items():
                yield _line(event="started", side=name, seconds=release.start_s * self._noise(), at=at)
            for name, release in sides.items():
                yield self._other(LIKELY, name, release, {"completion_probabilities": PLACES}, at)
            for number in range(rounds // 2 + 1):
                for ask in (SHORT, LONG):
                    load = 1 + self.load * self.chance.random()
                    for name, release in sides.items():
                        yield self._timed(ask, name, release, at, number, load)
            for name, release in sides.items():
                yield _line(
                    event="memory", side=name, host_kib=int(release.memory_mib * 1024), card_kib=int(release.card_mib * 1024), at=at
                )
            yield _line(event="log", side="canary", text=base64.b64encode(f"log of {at}\n".encode()).decode(), at=at)
        yield json.dumps({"event": "end"})

    def measured(self, rounds: int = 8) -> Measurements:
        found = Measurements()
        found.add("ai", self.lines(rounds))
        return found

    def _noise(self) -> float:
        return self.chance.lognormvariate(0, self.noise) * (2 if self.noise and self.chance.random() < 0.05 else 1)

    def _timed(self, ask: str, side: str, release: Release, at: int, number: int, load: float) -> str:
        first = PROMPT[ask] / release.prompts * load * self._noise()
        last = first + (GENERATED - 1) / release.generation * load * self._noise()
        timings = {
            "prompt_n": PROMPT[ask],
            "predicted_n": GENERATED,
            "prompt_per_second": PROMPT[ask] / first * release.claims,
            "predicted_per_second": (GENERATED - 1) / (last - first) * release.claims,
        }
        events: tuple[dict[str, Any], ...] = ({"content": f"{release.text} {number}"}, {"content": "", "stop": True, "timings": timings})
        body = "".join(f"data: {json.dumps(each)}\n\n" for each in events)
        return self._answer(ask, side, release, at, number, release.said.get(ask, body), first, last)

    def _other(self, ask: str, side: str, release: Release, usual: Mapping[str, Any], at: int) -> str:
        return self._answer(ask, side, release, at, 0, json.dumps(release.said.get(ask, usual)), 0.0, 0.0)

    def _answer(self, ask: str, side: str, release: Release, at: int, number: int, body: str, first: float, last: float) -> str:
        answer = base64.b64encode(body.encode()).decode()
        status = release.status.get(ask, 200)
        return _line(
            event="answer",
            side=side,
            at=at,
            round=number,
            ask=ask,
            status=status,
            ended=0,
            first_s=first,
            last_s=last,
            total_s=last + 0.001,
            answer=answer,
        )


def _line(*, at: int, **values: Any) -> str:
    return json.dumps({"pass": at, **values})

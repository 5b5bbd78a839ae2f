"""How long a request will wait, by the time that requests took of late."""

from __future__ import annotations

from paddock_gateway.contract import Ask
from paddock_gateway.fair.schedule import Candidates, Schedule

RECENT = 0.1
"""The weight of the latest request in a model's mean time."""


class Outlook:
    def __init__(self) -> None:
        self._service_s: dict[str, float] = {}

    def took(self, model: str, seconds: float) -> None:
        self._service_s[model] = self.service_s(model, seconds) * (1 - RECENT) + seconds * RECENT

    def service_s(self, model: str, unknown: float = 1.0) -> float:
        """What a request of this model takes, in the mean."""
        return self._service_s.get(model, unknown)

    def wait_s(self, model: str, position: int, places: int) -> float:
        """Where all places are taken, one comes free each mean time over the number of places."""
        return position * self.service_s(model) / max(1, places)


def position(queue: Schedule, ask: Ask, candidates: Candidates) -> int:
    """Of one more request, 1 being the next, as if all weights were equal: behind its user's own, and as many of each other user."""
    lane, flow = queue.lanes.get((ask.model, candidates)), queue.flows.get(ask.account.user)
    if lane is None:
        return 1
    own = len(flow.queues.get(lane, ())) if flow else 0
    others = lane.users - bool(own)
    return 1 + min(len(lane.turns), own + others * (own + 1))

"""A request on its way: what it asks for, what it holds, and where it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from paddock_gateway.contract import Ask, Place
from paddock_gateway.fair.admission import Allowance
from paddock_gateway.fair.affinity import Process, Slot
from paddock_gateway.fair.backends import Backend
from paddock_gateway.fair.schedule import Schedule, Turn


@dataclass(slots=True)
class Spot:
    backend: Backend
    process: Process
    slots: tuple[Slot, ...]
    """The first is the one that it is sent to. None where it takes none."""
    epoch: int
    """Of the process as the request began."""
    started: float


class Request(Turn):
    __slots__ = ("allowance", "ask", "granted", "position", "queue", "spot", "waited_s")

    def __init__(self, ask: Ask, number: int, since: float, allowance: Allowance, queue: Schedule) -> None:
        super().__init__(ask.account.user, ask.account.weight, ask.tokens, number, since)
        self.ask, self.allowance, self.queue = ask, allowance, queue
        self.granted: asyncio.Future[Place] | None = None
        """Where it waits, or has waited."""
        self.position = 0
        self.waited_s = 0.0
        self.spot: Spot | None = None
        """Where it runs."""


class Kept:
    """Requests that failed on one back end and are about to come back for another."""

    def __init__(self) -> None:
        self.requests: dict[tuple[object, ...], list[Request]] = {}

    def add(self, request: Request) -> None:
        self.requests.setdefault(_likeness(request.ask), []).append(request)

    def take(self, ask: Ask) -> Request | None:
        kept = self.requests.get(_likeness(ask)) if self.requests else None
        if not kept:
            return None
        request = kept[0]
        self.drop(request)
        request.ask = ask
        return request

    def drop(self, request: Request) -> bool:
        """Whether it was still there."""
        key = _likeness(request.ask)
        kept = self.requests.get(key, [])
        if request not in kept:
            return False
        kept.remove(request)
        if not kept:
            del self.requests[key]
        return True


def _likeness(ask: Ask) -> tuple[object, ...]:
    """Equal for two tries of one request. Two requests that have it equal hold the same of the limits, so one may well be taken for the
    other."""
    return ask.account.user, ask.account.key, ask.model, ask.tokens, ask.prefixes

"""A request on its way: what it asks for, what it holds, and where it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from paddock_gateway.contract import Ask, Place
from paddock_gateway.fair.affinity import Process, Slot
from paddock_gateway.fair.backends import Backend
from paddock_gateway.fair.leases import Borrowed
from paddock_gateway.fair.limits import Held
from paddock_gateway.fair.schedule import Schedule, Turn


@dataclass(slots=True)
class Allowance:
    """What it holds of its limits."""

    held: Held = field(default_factory=list)
    borrowed: Borrowed = field(default_factory=list)


@dataclass(slots=True)
class Spot:
    backend: Backend
    process: Process
    slot: Slot
    epoch: int
    """Of the process as the request began."""
    started: float


class Request(Turn):
    __slots__ = ("allowance", "ask", "granted", "position", "queue", "spot")

    def __init__(self, ask: Ask, number: int, since: float, allowance: Allowance, queue: Schedule) -> None:
        super().__init__(ask.account.user, ask.account.weight, ask.tokens, number, since)
        self.ask, self.allowance, self.queue = ask, allowance, queue
        self.granted: asyncio.Future[Place] | None = None
        """Where it waits, or has waited."""
        self.position = 0
        self.spot: Spot | None = None
        """Where it runs."""


def likeness(ask: Ask) -> tuple[object, ...]:
    """Equal for two tries of one request. Two requests that have it equal are worth the same, so it does no harm to take one for the other."""
    return ask.account.user, ask.account.key, ask.model, ask.tokens, ask.prefixes

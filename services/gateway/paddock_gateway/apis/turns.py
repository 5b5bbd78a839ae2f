"""At most so many at once; the others wait in a bounded queue, and users take turns in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from paddock_gateway.contract import Account
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Queue


@dataclass
class _Line:
    """A user's requests that wait. `at` grows by 1 / weight with each that is served."""

    weight: float
    at: float
    waits: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """`/generate` runs so many at once, whatever the back ends could. A user's own requests go in order, and users by their weights: the
    next is whose line is at the least, and a line begins where the last that was served is. Start-time fair queueing, with each request
    counted as one: P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996."""

    def __init__(self, at_once: int, queue: Queue) -> None:
        self._at_once, self._queue = at_once, queue
        self._lines: dict[str, _Line] = {}
        """By user. No line is empty."""
        self._at = 0.0
        self.running = 0

    @property
    def waiting(self) -> int:
        return sum(len(line.waits) for line in self._lines.values())

    @asynccontextmanager
    async def turn(self, account: Account) -> AsyncIterator[None]:
        """Raises Failure: 429 where the queue is full or the wait too long."""
        if self.running < self._at_once:
            self.running += 1
        else:
            await self._wait(account)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, account: Account) -> None:
        user = account.user
        line = self._lines.get(user) or _Line(account.weight, self._at)
        if self.waiting >= self._queue.length or len(line.waits) >= self._queue.per_user:
            raise Failure(429, "The queue is full: try again later.", "queue_full", retry_after_s=5)
        loop = asyncio.get_running_loop()
        given: asyncio.Future[None] = loop.create_future()
        line.waits.append(given)
        self._lines[user] = line
        late = Failure(429, f"No turn came within {self._queue.wait_s:g} seconds: try again later.", "queue_timeout", retry_after_s=5)
        timer = loop.call_later(self._queue.wait_s, self._expire, user, given, late)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled() and not given.exception():
                self._release()  # its turn came as it left
            else:
                self._leave(user, given)
            raise
        finally:
            timer.cancel()

    def _expire(self, user: str, given: asyncio.Future[None], late: Failure) -> None:
        if not given.done():
            self._leave(user, given)
            given.set_exception(late)

    def _leave(self, user: str, given: asyncio.Future[None]) -> None:
        line = self._lines.get(user)
        if line and given in line.waits:
            line.waits.remove(given)
            if not line.waits:
                del self._lines[user]

    def _release(self) -> None:
        while self._lines:
            user, line = min(self._lines.items(), key=lambda named: named[1].at)
            given = line.waits.popleft()
            if not line.waits:
                del self._lines[user]
            if not given.done():
                self._at = line.at
                line.at += 1 / line.weight
                given.set_result(None)
                return
        self.running -= 1

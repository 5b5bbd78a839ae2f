"""At most so many at once; the others wait in a bounded queue, and users take turns in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paddock_gateway.errors import Failure
from paddock_gateway.settings import Queue


class Turns:
    """`/generate` runs so many at once, whatever the back ends could. One user's long line does not keep another waiting: each user in
    it is served in turn, and their own requests in order. Weights count at the dispatcher, where those that run go next."""

    def __init__(self, at_once: int, queue: Queue) -> None:
        self._at_once, self._queue = at_once, queue
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        """Who waits, by user; the first user is the next. No line is empty."""
        self.running = 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Raises Failure: 429 where the queue is full or the wait too long."""
        if self.running < self._at_once:
            self.running += 1
        else:
            await self._wait(user)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, user: str) -> None:
        if self.waiting >= self._queue.length or len(self._lines.get(user, ())) >= self._queue.per_user:
            raise Failure(429, "The queue is full: try again later.", "queue_full", retry_after_s=5)
        loop = asyncio.get_running_loop()
        given: asyncio.Future[None] = loop.create_future()
        self._lines.setdefault(user, deque()).append(given)
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
        line = self._lines.get(user, deque())
        if given in line:
            line.remove(given)
            if not line:
                del self._lines[user]

    def _release(self) -> None:
        while self._lines:
            user, line = next(iter(self._lines.items()))
            del self._lines[user]
            given = line.popleft()
            if line:
                self._lines[user] = line  # behind the others
            if not given.done():
                given.set_result(None)
                return
        self.running -= 1

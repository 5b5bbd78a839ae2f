"""Limits that several gateways share: each takes from the database a chunk of what is left, and lives on it without asking.

What is lent is good for a part of the window, `validity_s`, and the database is asked to count it for the window and that part: so all
gateways together stay within the limit in any window. What is not used goes back when its validity ends: the other gateways have it then.
A database that is away stops nobody: each gateway then goes on with its own count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from paddock_gateway.contract import Lender
from paddock_gateway.fair.limits import Claim, Limiter

log = logging.getLogger(__name__)

PARTS = 20
"""A chunk is such a part of a limit, its validity such a part of the window: a gateway asks about so often a window."""
ASK_AGAIN_S = 1.0
"""Where the database had nothing left, or was away."""


def validity_s(window_s: int) -> int:
    return max(1, window_s // PARTS)


class Lease:
    __slots__ = ("away_until", "balance", "borrowing", "chunk", "none_until", "returned", "until", "unused", "unused_until", "window_s")

    def __init__(self, window_s: int) -> None:
        self.window_s, self.chunk = window_s, 1
        self.balance = 0
        """What is left of what was lent last; less than nothing where an answer was longer than expected."""
        self.unused = 0
        """What is to go back, until `unused_until`."""
        self.unused_until = float("inf")
        self.until = self.none_until = self.away_until = float("-inf")
        self.borrowing: asyncio.Task[None] | None = None
        self.returned: asyncio.TimerHandle | None = None
        """When what is left of it goes back."""

    def expire(self, now: float) -> None:
        if self.balance > 0:
            self.put_aside(self.balance, self.until, now)
            self.balance = 0

    def put_aside(self, amount: int, until: float, now: float) -> None:
        """To go back. `until` is the end of the lease that it is of.

        What is old is free by itself, or soon. If the database did not count it any more as it comes back, it would be taken off what
        others were lent: half a window is left for a database that is slow.
        """
        good_until = until + self.window_s / 2
        if amount and now < good_until:
            self.unused += amount
            self.unused_until = min(self.unused_until, good_until)

    def going_back(self, now: float) -> int:
        unused = self.unused if now < self.unused_until else 0
        self.unused, self.unused_until = 0, float("inf")
        return unused


class Part(NamedTuple):
    """What a request holds of a lease."""

    key: tuple[str, str, int]
    until: float
    """The end of the lease: one that followed it is good for longer."""
    amount: int


Borrowed = list[Part]


class Leases:
    def __init__(self, lender: Lender, limiter: Limiter, clock: Callable[[], float]) -> None:
        self._lender, self._limiter, self._clock = lender, limiter, clock
        self._leases: dict[tuple[str, str, int], Lease] = {}
        """By subject, kind and window."""
        self._sweep_at = 1024
        self._returning: set[asyncio.Task[None]] = set()

    async def take(self, claims: list[Claim], tokens: int) -> Borrowed:
        """All or nothing. Raises Failure: 429 where the limit of all gateways together is reached."""
        taken: Borrowed = []
        try:
            for claim in claims:
                limits = claim.limits
                if limits.requests is not None:
                    taken.append(await self._take(claim, "requests", limits.requests, 1))
                if limits.tokens is not None:
                    taken.append(await self._take(claim, "tokens", limits.tokens, tokens))
        except BaseException:
            self.give_back(taken)
            raise
        return taken

    def settle(self, taken: Borrowed, tokens: int) -> None:
        """It took so many tokens: the rest is free again."""
        for part in taken:
            if part.key[1] == "tokens" and part.amount:
                self._add(part, part.amount - tokens)

    def give_back(self, taken: Borrowed) -> None:
        for part in taken:
            self._add(part, part.amount)

    async def _take(self, claim: Claim, kind: str, limit: int, amount: int) -> Part:
        window_s = claim.limits.window_s
        key = claim.subject, kind, window_s
        lease = self._lease(key)
        lease.chunk = max(1, limit // PARTS)
        while True:
            now = self._clock()
            if now >= lease.until:
                lease.expire(now)
            if lease.balance >= amount:
                lease.balance -= amount
                return Part(key, lease.until, amount)
            if now < lease.away_until:
                return Part(key, lease.until, 0)
            if now < lease.none_until:
                told = f"The limit {claim.whose} is {limit} {kind} in {window_s} seconds, over all gateways, and it is used or held."
                raise self._limiter.refused(kind, told, window_s + validity_s(window_s))
            if lease.borrowing is None or lease.borrowing.done():
                lease.borrowing = asyncio.get_running_loop().create_task(self._borrow(key, lease, limit, amount))
            await asyncio.shield(lease.borrowing)  # who leaves takes nothing with it that was lent

    async def _borrow(self, key: tuple[str, str, int], lease: Lease, limit: int, amount: int) -> None:
        now = self._clock()
        subject, kind, window_s = key
        lease.expire(now)
        if lease.until + window_s <= now:
            lease.balance = 0  # a debt of a window that is over
        needed = amount - lease.balance
        counted_s = window_s + validity_s(window_s)
        try:
            unused = lease.going_back(now)
            if unused:
                await self._lender.give_back(subject, kind, counted_s, unused)
            now = self._clock()
            lent = await self._lender.lend(subject, kind, counted_s, limit, max(needed, lease.chunk))
        except Exception as error:
            log.warning("The database lends no %s (%s): this gateway goes on with its own count.", kind, error)
            lease.away_until = now + ASK_AGAIN_S
            return
        lease.expire(now)  # what came back of the last one meanwhile is good no longer than that
        lease.balance += lent
        lease.until = now + validity_s(window_s)
        if lease.returned is not None:
            lease.returned.cancel()
        lease.returned = asyncio.get_running_loop().call_later(validity_s(window_s), self._over, key, lease)
        if lent < needed:
            lease.none_until = now + ASK_AGAIN_S

    def _lease(self, key: tuple[str, str, int]) -> Lease:
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self._sweep_at:
                for old, kept in list(self._leases.items()):
                    if (kept.borrowing is None or kept.borrowing.done()) and kept.until + kept.window_s <= self._clock():
                        del self._leases[old]
                self._sweep_at = max(1024, 2 * len(self._leases))
            lease = self._leases[key] = Lease(key[2])
        return lease

    def _add(self, part: Part, amount: int) -> None:
        lease = self._leases.get(part.key)
        if lease is None:
            return
        now = self._clock()
        if part.until + lease.window_s <= now:
            return  # it counts nowhere any more
        if amount < 0 or (part.until == lease.until and now < lease.until):
            lease.balance += amount
        else:
            lease.put_aside(amount, part.until, now)
        if lease.balance > 2 * lease.chunk:
            lease.put_aside(lease.balance - lease.chunk, lease.until, now)
            lease.balance = lease.chunk
        if lease.unused > 2 * lease.chunk:
            self._return_soon(part.key, lease)
        elif lease.unused and lease.returned is None:
            lease.returned = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._over, part.key, lease)

    def _over(self, key: tuple[str, str, int], lease: Lease) -> None:
        """Its validity has ended, or what it was lent before waits to go back."""
        lease.returned, now = None, self._clock()
        if now >= lease.until - 0.001:  # a rounding
            lease.expire(now)
        self._return_soon(key, lease)

    def _return_soon(self, key: tuple[str, str, int], lease: Lease) -> None:
        if lease.unused:
            task = asyncio.get_running_loop().create_task(self._return(key, lease))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _return(self, key: tuple[str, str, int], lease: Lease) -> None:
        unused = lease.going_back(self._clock())
        subject, kind, window_s = key
        if not unused:
            return
        try:
            await self._lender.give_back(subject, kind, window_s + validity_s(window_s), unused)
        except Exception as error:
            log.warning("The database took no %s back (%s): they are free again when the window is over.", kind, error)

    async def return_all(self) -> None:
        """So that the other gateways have it before the window is over."""
        for key, lease in list(self._leases.items()):
            if lease.returned is not None:
                lease.returned.cancel()
                lease.returned = None
            lease.expire(self._clock())
            await self._return(key, lease)
        if self._returning:
            await asyncio.gather(*self._returning)

"""Limits that several gateways share: each takes from the database a chunk of what is left, and lives on it without asking.

The database counts in windows that begin at multiples of `window_s` since 1970, and a lease ends with its window. In each of these
windows all gateways together stay within the limit; in any other, each gateway by itself does. A database that is away stops nobody:
each gateway then goes on with its own count.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from paddock_gateway.contract import Lender
from paddock_gateway.fair.limits import Claim, Limiter

log = logging.getLogger(__name__)

CHUNKS = 20
"""The database is asked so often a window at most, where requests are small; as large a part of a limit may lie unused at each gateway."""
ASK_AGAIN_S = 1.0
"""Where the database had nothing left, or was away."""


class Lease:
    """What is left of what was lent in one window. Less than nothing where an answer was longer than expected."""

    __slots__ = ("away_until", "balance", "chunk", "lock", "none_until", "window", "window_s")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.begin(-1, 1, 1)

    def begin(self, window: int, window_s: int, chunk: int) -> None:
        self.window, self.window_s, self.chunk = window, window_s, chunk
        self.balance, self.none_until, self.away_until = 0, 0.0, 0.0


Borrowed = list[tuple[str, str, int, int, int]]
"""Subject, kind, seconds and number of the window, amount."""


class Leases:
    def __init__(self, lender: Lender, limiter: Limiter, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._lender, self._limiter, self._clock = lender, limiter, clock
        self._leases: dict[tuple[str, str], Lease] = {}
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
        for subject, kind, window_s, window, amount in taken:
            if kind == "tokens":
                self._add(subject, kind, window_s, window, amount - tokens)

    def give_back(self, taken: Borrowed) -> None:
        for subject, kind, window_s, window, amount in taken:
            self._add(subject, kind, window_s, window, amount)

    async def _take(self, claim: Claim, kind: str, limit: int, amount: int) -> tuple[str, str, int, int, int]:
        window_s = claim.limits.window_s
        lease = self._lease(claim.subject, kind)
        async with lease.lock:
            now = self._clock()
            window = int(now // window_s)
            if (lease.window, lease.window_s) != (window, window_s):
                lease.begin(window, window_s, max(1, limit // CHUNKS))
            if lease.balance < amount and now >= max(lease.none_until, lease.away_until):
                await self._borrow(claim.subject, kind, lease, limit, amount - lease.balance, now)
            if lease.balance < amount:
                if now < lease.away_until:
                    return claim.subject, kind, window_s, window, 0
                told = f"The limit {claim.whose} is {limit} {kind} in {window_s} seconds, over all gateways, and it is used or held."
                raise self._limiter.refused(kind, told, (window + 1) * window_s - now)
            lease.balance -= amount
        return claim.subject, kind, window_s, window, amount

    async def _borrow(self, subject: str, kind: str, lease: Lease, limit: int, needed: int, now: float) -> None:
        try:
            lent = await self._lender.lend(subject, kind, lease.window_s, limit, max(needed, lease.chunk))
        except Exception as error:
            log.warning("The database lends no %s (%s): this gateway goes on with its own count.", kind, error)
            lease.away_until = now + ASK_AGAIN_S
            return
        lease.balance += lent
        if lent < needed:
            lease.none_until = now + ASK_AGAIN_S

    def _lease(self, subject: str, kind: str) -> Lease:
        lease = self._leases.get((subject, kind))
        if lease is None:
            if len(self._leases) >= self._sweep_at:
                now = self._clock()
                self._leases = {
                    key: kept for key, kept in self._leases.items() if kept.lock.locked() or kept.window == now // kept.window_s
                }
                self._sweep_at = max(1024, 2 * len(self._leases))
            lease = self._leases[subject, kind] = Lease()
        return lease

    def _add(self, subject: str, kind: str, window_s: int, window: int, amount: int) -> None:
        """Nothing where the window is over: the database began anew."""
        lease = self._leases.get((subject, kind))
        if lease is None or not (lease.window_s == window_s and lease.window == window == self._clock() // window_s):
            return
        lease.balance += amount
        if lease.balance > 2 * lease.chunk:
            surplus, lease.balance = lease.balance - lease.chunk, lease.chunk
            task = asyncio.get_running_loop().create_task(self._return(subject, kind, window_s, surplus))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _return(self, subject: str, kind: str, window_s: int, amount: int) -> None:
        try:
            await self._lender.give_back(subject, kind, window_s, amount)
        except Exception as error:
            log.warning("The database took no %s back (%s): they are free again when the window is over.", kind, error)

    async def return_all(self) -> None:
        """So that the other gateways have it before the window is over."""
        for (subject, kind), lease in list(self._leases.items()):
            if lease.balance > 0 and lease.window == self._clock() // lease.window_s:
                surplus, lease.balance = lease.balance, 0
                await self._return(subject, kind, lease.window_s, surplus)
        if self._returning:
            await asyncio.gather(*self._returning)

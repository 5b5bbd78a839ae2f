"""Limits that several gateways share: what was lent stands in Postgres, by the database's clock."""

from __future__ import annotations

import time

from paddock_gateway.errors import Failure
from paddock_gateway.store.database import Database, DatabaseAway, Transaction

BUCKETS = 60
"""A window is counted in so many parts, of a second at least: what was lent counts for the window and up to one part more."""
TIDY_S = 600.0
"""So often a gateway that lends removes what counts no more, of users who never came back too."""


class SharedLimits:
    """contract.Lender. Lent is never more than the limit within any `window_s` seconds.

    All raise Failure 503 where the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tidy_at = time.monotonic() + TIDY_S

    async def lend(self, subject: str, kind: str, window_s: int, limit: int, amount: int) -> int:
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S
            await self.tidy()
        try:
            async with self._database.transaction(write=True) as transaction:
                now, oldest = await _counted(transaction, subject, kind, window_s)
                await transaction.fetch(
                    "DELETE FROM lendings WHERE subject = $1 AND kind = $2 AND window_s = $3 AND bucket < $4",
                    subject,
                    kind,
                    window_s,
                    oldest,
                )
                lent = await transaction.fetch(
                    "SELECT coalesce(sum(amount), 0) FROM lendings WHERE subject = $1 AND kind = $2 AND window_s = $3",
                    *(subject, kind, window_s),
                )
                taken = max(0, min(amount, limit - int(lent[0][0])))
                if taken:
                    await transaction.fetch(
                        "INSERT INTO lendings (subject, kind, window_s, bucket, amount) VALUES ($1, $2, $3, $4, $5) "
                        "ON CONFLICT (subject, kind, window_s, bucket) DO UPDATE SET amount = lendings.amount + excluded.amount",
                        *(subject, kind, window_s, now, taken),
                    )
                return taken
        except DatabaseAway as error:
            raise _unavailable(error) from None

    async def give_back(self, subject: str, kind: str, window_s: int, amount: int) -> None:
        """From what was lent first and still counts: what is taken from a later part would count again once the earlier has left."""
        try:
            async with self._database.transaction(write=True) as transaction:
                _, oldest = await _counted(transaction, subject, kind, window_s)
                rows = await transaction.fetch(
                    "SELECT bucket, amount FROM lendings WHERE subject = $1 AND kind = $2 AND window_s = $3 AND bucket >= $4 "
                    "ORDER BY bucket",
                    *(subject, kind, window_s, oldest),
                )
                for bucket, lent in rows:
                    back = min(amount, lent)
                    await transaction.fetch(
                        "UPDATE lendings SET amount = amount - $5 WHERE subject = $1 AND kind = $2 AND window_s = $3 AND bucket = $4",
                        *(subject, kind, window_s, bucket, back),
                    )
                    amount -= back
                    if not amount:
                        return
        except DatabaseAway as error:
            raise _unavailable(error) from None

    async def tidy(self) -> None:
        """Removes what has not counted for a minute. Rows that another transaction has in hand are left to it."""
        try:
            async with self._database.transaction(write=True) as transaction:
                await transaction.fetch(
                    "DELETE FROM lendings WHERE (subject, kind, window_s, bucket) IN (SELECT subject, kind, window_s, bucket FROM lendings "
                    "WHERE bucket < floor((extract(epoch FROM clock_timestamp())::float8 - 60 - window_s) "
                    "/ greatest(1.0, window_s / $1::float8)) FOR UPDATE SKIP LOCKED)",
                    float(BUCKETS),
                )
        except DatabaseAway as error:
            raise _unavailable(error) from None


async def _counted(transaction: Transaction, subject: str, kind: str, window_s: int) -> tuple[int, int]:
    """The bucket of now and the oldest that counts, with the subject's limit held until the transaction ends."""
    await transaction.fetch("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", f"{kind} {subject}", window_s)
    rows = await transaction.fetch("SELECT extract(epoch FROM clock_timestamp())::float8")
    now, part = float(rows[0][0]), max(1.0, window_s / BUCKETS)
    return int(now // part), int((now - window_s) // part)


def _unavailable(error: DatabaseAway) -> Failure:
    return Failure(503, f"The shared limits cannot be asked for: {error}", "database_unavailable", retry_after_s=5)

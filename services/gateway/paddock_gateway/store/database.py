"""A database as the gateway's parts see it: transactions of SQL with `$1`, the same text for SQLite and Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

REVISION = "0001"
"""Of the schema that this gateway speaks: the newest in migrations/versions. They are numbers of four digits, in order."""


class StoreError(Exception):
    """The database that cannot be used: where, why, and what to do, in one line."""


class DatabaseAway(StoreError):
    """It does not answer, or cannot do what is asked just now. It may later."""


class Transaction(Protocol):
    async def fetch(self, sql: str, *values: Any) -> Sequence[Sequence[Any]]:
        """The rows; none for a statement that gives none. Raises DatabaseAway."""


class Database(Protocol):
    def transaction(self, *, write: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Committed at its end, undone where something is raised in it. Raises DatabaseAway."""

    async def has_table(self, name: str) -> bool:
        """Raises DatabaseAway."""

    async def close(self) -> None: ...


@dataclass
class Batch:
    """Rows that are written together or not at all. Each is as COLUMNS has it, `created_at` in seconds since 1970."""

    id: int
    rows: list[tuple[Any, ...]]


COLUMNS = (
    *("username", "path", "model", "backend", "status_code", "duration_ms", "ttft_ms", "queued_ms", "prompt_tokens", "cached_tokens"),
    *("completion_tokens", "request_bytes", "response_bytes", "created_at", "request_id"),
)
CREATED_AT = COLUMNS.index("created_at")


class Rows(Protocol):
    """The table llama_requests."""

    async def write(self, batch: Batch, *, again: bool) -> None:
        """In one transaction. `again`: it may be there already, and is then left. Raises DatabaseAway; ValueError where its rows can
        never be written."""

    async def delete_older(self, before: float, at_most: int) -> int:
        """Deletes rows that came before `before` (seconds since 1970); how many it found. Raises DatabaseAway."""

    async def close(self) -> None: ...


async def revision(database: Database) -> str | None:
    """Of the schema that is there; None where there is none. Raises DatabaseAway."""
    if not await database.has_table("alembic_version"):
        return None
    async with database.transaction() as transaction:
        rows = await transaction.fetch("SELECT version_num FROM alembic_version")
    return str(rows[0][0]) if rows else None


def newer(where: str, revision: str) -> str:
    return (
        f"{where} was made by a newer paddock-gateway (its tables are at {revision}): install that version again, "
        "or restore the backup that was made before it"
    )

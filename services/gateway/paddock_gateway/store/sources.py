"""What can be copied: a SQLite file, or a database of Postgres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from paddock_gateway.settings import Configuration
from paddock_gateway.store import postgres, sqlite
from paddock_gateway.store.database import StoreError


class Source(Protocol):
    """A database that can be copied and put back. All raise StoreError."""

    kind: str
    access: Configuration
    """With which this account reaches it."""

    async def copy(self, file: Path) -> dict[str, int]:
        """Copies it into the file, and counts the rows of every table in the same snapshot. It may serve meanwhile."""

    async def restore(self, file: Path, rows: dict[str, int], work: Callable[[Configuration], object] | None = None) -> None:
        """Restores the file into a scratch database, and counts: as many `rows` must come back. `work` has that database then, by a
        configuration that names it; afterwards it is gone."""

    async def put_back(self, file: Path, rows: dict[str, int]) -> Replaced:
        """The copy takes the database's place, whose gateway has ended; the one before is kept aside until `settle` or `undo`."""

    async def undo(self) -> bool:
        """The database that was kept aside takes its place again. False where there is none."""

    async def settle(self) -> None:
        """What was kept aside goes."""


class Replaced(msgspec.Struct, frozen=True):
    """`revoked` are ids of keys that the copy still had let in, and the database in its place had not. `known` is whether that database
    could say so: one that is lost, or younger than the copy, cannot."""

    revoked: list[str]
    known: bool


def source_of(configuration: Configuration) -> Source:
    path = sqlite.path_in(configuration.database)
    if path:
        from paddock_gateway.store.dump_sqlite import SqliteSource

        return SqliteSource(path, configuration)
    if postgres.is_postgres(configuration.database):
        from paddock_gateway.store.dump_postgres import PostgresSource

        return PostgresSource(configuration)
    raise StoreError(f"database: {configuration.database!r} is none that can be copied")


def require_same(wanted: dict[str, int], found: dict[str, int], what: str) -> None:
    """Raises StoreError where a table has other rows than were counted."""
    for table in sorted(wanted.keys() | found.keys()):
        if wanted.get(table) != found.get(table):
            raise StoreError(
                f"{what} cannot be restored: of {wanted.get(table, 'no')} rows of the table {table} {found.get(table, 'no')} came back"
            )

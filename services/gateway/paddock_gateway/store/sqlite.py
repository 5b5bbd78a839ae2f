"""SQLite: one connection in a thread of its own for users and keys, another for the request log."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from paddock_gateway.store.database import COLUMNS, CREATED_AT, Batch, DatabaseAway, StoreError

BUSY_S = 5.0
"""How long one writer waits for another, a command for the gateway."""

T = TypeVar("T")


def path_in(url: str) -> Path | None:
    """Of `sqlite:/var/lib/…/gateway.db`, also with SQLAlchemy's slashes; None for another database."""
    return Path("/" + url[len("sqlite:") :].lstrip("/")) if url.startswith("sqlite:") else None


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection that can be used from any thread, one at a time. Transactions are begun and ended by hand.

    Raises StoreError where there is no such file and it is not to be made, or it is no database that can be written.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if not create:
            raise StoreError(f"{path}: there is no such database. `paddock-gateway init-db` makes it") from None
        _make(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror} (as {_who()})") from None
    else:
        if stat.S_ISDIR(found.st_mode):
            raise StoreError(f"{path} is a directory: the database is a file in one, {path}/gateway.db")
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is no regular file: name a file for the database")
    for written in (path, path.parent):  # SQLite makes its journal beside the file
        if not os.access(written, os.R_OK | os.W_OK):
            raise StoreError(f"{written}: no permission to write there as {_who()}: let it own the file and its directory")
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error as error:
        raise in_words(error, path) from None
    return connection


def _make(path: Path) -> None:
    """Readable by its owner alone from its first moment."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no directory {path.parent}: make it, owned by the gateway's user") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror} (as {_who()})") from None


def _who() -> str:
    from pwd import getpwuid

    with suppress(KeyError):
        return getpwuid(os.geteuid()).pw_name
    return f"user {os.geteuid()}"


def in_words(error: sqlite3.Error, path: Path) -> StoreError:
    """What SQLite says, with what to do about it."""
    told = str(error)
    if "not a database" in told:
        return StoreError(f"{path} is no SQLite database: move the file away, or name another in `database`")
    if "malformed" in told:
        return StoreError(f"{path} is damaged ({told}): stop the gateway and restore a backup, or try `sqlite3 {path} .recover`")
    if "is full" in told:
        return DatabaseAway(f"{path}: the disk is full: make room on it")
    if "locked" in told or "busy" in told:
        return DatabaseAway(f"{path}: another program has held its lock for {BUSY_S:g} s: end it (`fuser {path}` names it)")
    return DatabaseAway(f"{path}: {told}")


@lru_cache(maxsize=256)
def numbered(sql: str) -> str:
    """`$1` is a name to SQLite, `?1` a place."""
    return re.sub(r"\$(\d+)", r"?\1", sql)


class _Thread:
    """A connection and the one thread that uses it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._connection = connect(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._connection)
        except sqlite3.Error as error:
            said = in_words(error, self.path)
            raise said if isinstance(said, DatabaseAway) else DatabaseAway(str(said)) from None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)


class SqliteTransaction:
    def __init__(self, call: Callable[[Callable[[sqlite3.Connection], Any]], Any]) -> None:
        self._call = call

    async def fetch(self, sql: str, *values: Any) -> Sequence[Sequence[Any]]:
        found: list[Sequence[Any]] = await self._call(lambda connection: connection.execute(numbered(sql), values).fetchall())
        return found


class SqliteDatabase(_Thread):
    """database.Database. One transaction at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "database")
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *, write: bool = False) -> AsyncIterator[SqliteTransaction]:
        async with self._turn:
            try:
                await self._call(lambda connection: connection.execute("BEGIN IMMEDIATE" if write else "BEGIN"))
                yield SqliteTransaction(self._call)
                await self._call(lambda connection: connection.execute("COMMIT"))
            except BaseException:
                # One who leaves in the middle too: the thread works on in order, and this comes last.
                await self._call(lambda connection: connection.in_transaction and connection.execute("ROLLBACK"))
                raise

    async def has_table(self, name: str) -> bool:
        async with self.transaction() as transaction:
            return bool(await transaction.fetch("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1", name))


INSERT = f"INSERT INTO llama_requests ({', '.join(COLUMNS)}, batch, number) VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"


def as_text(seconds: float) -> str:
    """`2026-11-30 15:51:34.123Z`: sorts by time, and SQLite's own functions read it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "milliseconds").removesuffix("+00:00") + "Z"


class SqliteRows(_Thread):
    """database.Rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "request-log")

    async def write(self, batch: Batch, *, again: bool) -> None:
        await self._call(partial(_insert, batch, again))

    async def delete_older(self, before: float, at_most: int) -> int:
        return await self._call(
            lambda connection: (
                connection.execute(
                    "DELETE FROM llama_requests WHERE rowid IN "
                    "(SELECT rowid FROM llama_requests WHERE created_at < ? ORDER BY created_at LIMIT ?)",
                    (as_text(before), at_most),
                ).rowcount
            )
        )


def _insert(batch: Batch, again: bool, connection: sqlite3.Connection) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        if not (again and connection.execute("SELECT 1 FROM llama_requests WHERE batch = ? LIMIT 1", (batch.id,)).fetchone()):
            connection.executemany(
                INSERT,
                (
                    (*row[:CREATED_AT], as_text(row[CREATED_AT]), *row[CREATED_AT + 1 :], batch.id, number)
                    for number, row in enumerate(batch.rows)
                ),
            )
        connection.execute("COMMIT")
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, OverflowError, UnicodeError) as error:
        raise ValueError(str(error)) from None
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

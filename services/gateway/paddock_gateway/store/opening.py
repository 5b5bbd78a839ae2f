"""Opens the database that the configuration names: for the gateway with its locks, keys and log; for a command beside it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from paddock_gateway.keys import KeyTable
from paddock_gateway.pepper import pepper
from paddock_gateway.request_log import BatchLog
from paddock_gateway.settings import Configuration
from paddock_gateway.spool import Spool
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import REVISION, Database, Rows, StoreError, newer, revision
from paddock_gateway.store.lending import SharedLimits
from paddock_gateway.store.users import UserTable


@dataclass(frozen=True)
class Store:
    """What serves needs of the database. `close` writes what the log still holds."""

    keys: KeyTable
    users: UserTable
    log: BatchLog
    lender: SharedLimits | None
    """None where no other gateway can share the database: SQLite."""
    _stack: AsyncExitStack

    async def close(self) -> None:
        await self._stack.aclose()


async def open_store(configuration: Configuration) -> Store:
    """Locked against another gateway, brought up to date, its keys read, its log started. Raises StoreError, SettingsError."""
    secret = pepper(Path(configuration.pepper_file))
    async with AsyncExitStack() as stack:
        state = Path(configuration.state)
        _lock(stack, state / "gateway.lock", f"the directory {state}: give each its own `state`")
        path = sqlite.path_in(configuration.database)
        if path:
            _lock(stack, path.with_name(f"{path.name}.lock"), f"{path}: SQLite is for one gateway; several share a Postgres")
        spool = Spool(state / "requests.spool", configuration.log.spool_mib << 20)
        stack.callback(spool.close)
        database = await _migrated(configuration)
        stack.push_async_callback(database.close)
        keys = KeyTable(database, secret, configuration)
        stack.push_async_callback(keys.close)
        await keys.start()
        users = UserTable(database, secret, configuration, changed=keys.refresh)
        rows = _rows(configuration)
        log = BatchLog(rows, spool, configuration.log)
        stack.push_async_callback(log.close)
        log.start()
        lender = None if path else SharedLimits(database)
        return Store(keys, users, log, lender, stack.pop_all())


def _rows(configuration: Configuration) -> Rows:
    if path := sqlite.path_in(configuration.database):
        return sqlite.SqliteRows(path)
    from paddock_gateway.store import postgres  # asyncpg takes 2 MiB, which SQLite has no use for

    return postgres.PostgresRows(configuration)


@asynccontextmanager
async def open_users(configuration: Configuration, secret: bytes) -> AsyncIterator[UserTable]:
    """For a command, beside a gateway that runs or not. `secret` is the pepper. Raises StoreError."""
    database = await open_database(configuration)
    try:
        there = await revision(database)
        if there is None:
            raise StoreError(f"{where(configuration)} has no tables of a gateway yet: `paddock-gateway init-db` makes them")
        if there != REVISION:
            raise StoreError(
                f"{where(configuration)} has the tables of another version of paddock-gateway ({there}, this one's are {REVISION}): "
                "use that version, or bring an older database up to date by `paddock-gateway init-db`"
            )
        yield UserTable(database, secret, configuration)
    finally:
        await database.close()


async def open_database(configuration: Configuration) -> Database:
    """As it is. Raises StoreError."""
    path = sqlite.path_in(configuration.database)
    if path:
        return sqlite.SqliteDatabase(path)
    from paddock_gateway.store import postgres

    if postgres.is_postgres(configuration.database):
        return await postgres.PostgresDatabase.open(configuration)
    raise StoreError(
        f"database: {configuration.database!r} is none that the gateway knows: "
        "write sqlite:/var/lib/paddock-gateway/gateway.db or postgresql://USER@HOST:PORT/NAME"
    )


def where(configuration: Configuration) -> str:
    if path := sqlite.path_in(configuration.database):
        return str(path)
    from paddock_gateway.store import postgres

    return postgres.shown(configuration.database)


async def _migrated(configuration: Configuration) -> Database:
    path = sqlite.path_in(configuration.database)
    if not path or os.path.lexists(path):
        database = await open_database(configuration)
        try:
            there = await revision(database)
            if there == REVISION:
                return database
            if there is not None and there > REVISION:
                raise StoreError(newer(where(configuration), there))
        except BaseException:
            await database.close()
            raise
        await database.close()
    await _migrate(configuration)
    return await open_database(configuration)


async def _migrate(configuration: Configuration) -> None:
    """In a process of its own: what migrates takes 25 MiB, and the gateway would keep them."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from paddock_gateway.store import migrate; migrate.main()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    _, told = await child.communicate(msgspec.json.encode(configuration))
    if child.returncode:
        lines = told.decode("utf-8", "replace").strip().splitlines()
        raise StoreError(lines[-1] if lines else f"the migration of {where(configuration)} ended with {child.returncode}")


def _lock(stack: AsyncExitStack, path: Path, what: str) -> None:
    """Held until the stack ends, or the process. Raises StoreError where another gateway holds it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: the directory must be there, and the gateway's user must own it") from None
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 20, 0).decode("ascii", "replace").strip()
        raise StoreError(f"another gateway (process {holder or 'unknown'}) runs on {what}") from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

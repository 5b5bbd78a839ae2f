"""Postgres by asyncpg: a small pool for users, keys and lent limits, a connection of its own for the request log, which goes in by COPY."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from paddock_gateway.settings import Configuration
from paddock_gateway.store.database import COLUMNS, CREATED_AT, Batch, DatabaseAway, StoreError

CONNECT_S = 5.0
STATEMENT_S = 10.0
"""A server that does not answer a statement in this time counts as away."""
POOL = 4

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, asyncio.TimeoutError)
"""InternalClientError too: asyncpg raises it where a connection breaks between two of its steps."""


def is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def shown(url: str) -> str:
    """The URL without a password, for words."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@")).geturl() if parts.password else url


def arguments(configuration: Configuration) -> dict[str, Any]:
    """For asyncpg.connect. Raises StoreError where the password cannot be read or the URL is none."""
    password = None
    if configuration.database_password_file:
        path = Path(configuration.database_password_file)
        try:
            password = path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"database_password_file {path}: {getattr(error, 'strerror', None) or error}") from None
        if not password:
            raise StoreError(f"database_password_file {path} is empty: write the password of the database's user into it")
    return {
        "dsn": configuration.database,
        "password": password,
        "timeout": CONNECT_S,
        "command_timeout": STATEMENT_S,
        "server_settings": {"application_name": "paddock-gateway"},
    }


async def connect(configuration: Configuration, statement_s: float | None = STATEMENT_S) -> asyncpg.Connection[asyncpg.Record]:
    """Raises StoreError, DatabaseAway where trying later may help."""
    try:
        return await asyncpg.connect(**arguments(configuration) | {"command_timeout": statement_s})
    except (*AWAY, ValueError) as error:
        raise in_words(error, configuration.database) from None


def in_words(error: BaseException, url: str) -> StoreError:
    """What Postgres or the way to it says, with what to do about it."""
    where = shown(url)
    if isinstance(error, (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
        return StoreError(f"{where}: Postgres lets the user not in ({error}): check the user, database_password_file and pg_hba.conf")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return StoreError(f"{where}: {error}: make it (`createdb`), or name another in `database`")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return StoreError(f"{where}: {error}: let the user own the database, or its schema (`GRANT ALL ON SCHEMA public TO …`)")
    if isinstance(error, asyncpg.UndefinedTableError):
        return StoreError(f"{where}: {error}: `paddock-gateway init-db` makes the tables")
    if isinstance(error, socket.gaierror):
        return DatabaseAway(f"{where}: the name of its host leads nowhere: check `database` and the name service")
    if isinstance(error, asyncio.TimeoutError) or (isinstance(error, OSError) and not str(error)):
        return DatabaseAway(f"{where}: no answer from Postgres in time: check that it runs and that no firewall is between")
    if isinstance(error, (ConnectionError, FileNotFoundError)):
        return DatabaseAway(f"{where}: nobody answers there: start Postgres, or check the host and port in `database`")
    if isinstance(error, (ValueError, asyncpg.ClientConfigurationError)):
        return StoreError(f"{where}: no address of a Postgres ({error}): write postgresql://USER@HOST:PORT/NAME")
    return DatabaseAway(f"{where}: {' '.join(str(error).split()) or type(error).__name__}")


class PostgresTransaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *values: Any) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = await self._connection.fetch(sql, *values)
        return found


class PostgresDatabase:
    """database.Database."""

    def __init__(self, url: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._url, self._pool = url, pool

    @staticmethod
    async def open(configuration: Configuration) -> PostgresDatabase:
        """Raises StoreError."""
        said = arguments(configuration)
        try:
            # None is kept open for its own sake: while the server is away the pool would write a traceback for each try.
            pool = await asyncpg.create_pool(min_size=0, max_size=POOL, **said)
            await pool.release(await pool.acquire())
            return PostgresDatabase(configuration.database, pool)
        except (*AWAY, ValueError) as error:
            raise in_words(error, configuration.database) from None

    @asynccontextmanager
    async def transaction(self, *, write: bool = False) -> AsyncIterator[PostgresTransaction]:
        try:
            async with self._pool.acquire(timeout=CONNECT_S) as connection, connection.transaction(readonly=not write):
                yield PostgresTransaction(connection)
        except AWAY as error:
            raise _away(error, self._url) from None

    async def has_table(self, name: str) -> bool:
        async with self.transaction() as transaction:
            return bool(await transaction.fetch("SELECT 1 WHERE to_regclass(quote_ident($1)) IS NOT NULL", name))

    async def close(self) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_S)
        except AWAY:
            self._pool.terminate()


def _away(error: BaseException, url: str) -> DatabaseAway:
    """While it runs, each failure may pass: a password that was changed, a right that was taken."""
    said = in_words(error, url)
    return said if isinstance(said, DatabaseAway) else DatabaseAway(str(said))


class PostgresRows:
    """database.Rows."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def write(self, batch: Batch, *, again: bool) -> None:
        records = [
            (*row[:CREATED_AT], datetime.fromtimestamp(row[CREATED_AT], timezone.utc), *row[CREATED_AT + 1 :], batch.id, number)
            for number, row in enumerate(batch.rows)
        ]
        try:
            async with self._connected() as connection, connection.transaction():
                if again and await connection.fetchval("SELECT 1 FROM llama_requests WHERE batch = $1 LIMIT 1", batch.id):
                    return
                await connection.copy_records_to_table("llama_requests", records=records, columns=(*COLUMNS, "batch", "number"))
        except (asyncpg.DataError, UnicodeError) as error:
            raise ValueError(str(error)) from None

    async def delete_older(self, before: float, at_most: int) -> int:
        async with self._connected() as connection:
            told = await connection.execute(
                "DELETE FROM llama_requests WHERE (batch, number) IN "
                "(SELECT batch, number FROM llama_requests WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
                datetime.fromtimestamp(before, timezone.utc),
                at_most,
            )
        return int(told.split()[-1])

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._configuration)
            yield self._connection
        except asyncpg.DataError:
            raise
        except AWAY as error:
            await self.close()
            raise _away(error, self._configuration.database) from None
        except StoreError as error:
            raise DatabaseAway(str(error)) from None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*AWAY):
                await connection.close(timeout=1.0)
            connection.terminate()

"""A Postgres database copied by pg_dump, and put back by pg_restore. It takes who may make databases: on a host that is `postgres`.

See https://www.postgresql.org/docs/current/app-pgdump.html; the snapshot is shared as its section 9.28.5 says.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from paddock_gateway.settings import Configuration
from paddock_gateway.store import postgres
from paddock_gateway.store.database import StoreError
from paddock_gateway.store.revoked import COUNTER, KEYS, Keys, keys_in, shut_out
from paddock_gateway.store.sources import Replaced, require_same

ADMINISTRATOR = "postgres"
MAINTENANCE = "postgres"
"""The database from which others are made and renamed."""
SCRATCH, RESTORED, ASIDE = "_scratch", "_restored", "_before"
"""Behind the database's own name."""

TABLES = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class PostgresSource:
    """dumps.Source."""

    kind = "postgres"

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        said = postgres.arguments(configuration)
        parts = urlsplit(configuration.database)
        self.name = parts.path.lstrip("/")
        self.owner = parts.username or ""
        if pwd.getpwuid(os.geteuid()).pw_name == ADMINISTRATOR and not said["password"]:
            parts = parts._replace(netloc=f"{ADMINISTRATOR}@{parts.netloc.rpartition('@')[2]}")
        self._url, self._password = urlunsplit(parts), said["password"]
        self.access = msgspec.structs.replace(configuration, database=self._url)

    async def copy(self, file: Path) -> dict[str, int]:
        async with self._connected(self.name) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute("SET idle_in_transaction_session_timeout = 0")
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            await self._program("pg_dump", self.name, "--format=custom", f"--snapshot={snapshot}", f"--file={file}")
            return await _rows(connection)

    async def restore(self, file: Path, rows: dict[str, int], work: Callable[[Configuration], object] | None = None) -> None:
        scratch = self.name + SCRATCH
        try:
            await self._restore(file, scratch, rows)
            if work:
                async with self._connected(MAINTENANCE) as administrator:
                    await administrator.execute(f"GRANT CONNECT ON DATABASE {_quoted(scratch)} TO {_quoted(self.owner)}")
                own = urlunsplit(urlsplit(self.configuration.database)._replace(path=f"/{scratch}"))
                await asyncio.to_thread(work, msgspec.structs.replace(self.configuration, database=own))
        finally:
            await self._drop(scratch)

    async def _restore(self, file: Path, name: str, rows: dict[str, int]) -> None:
        await self._drop(name)
        what = f"the copy {file.name}"
        async with self._connected(MAINTENANCE) as administrator:
            await administrator.execute(
                f"CREATE DATABASE {_quoted(name)} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' ALLOW_CONNECTIONS true"
            )
            await administrator.execute(f"REVOKE ALL ON DATABASE {_quoted(name)} FROM PUBLIC")
        try:
            await self._program("pg_restore", name, "--exit-on-error", f"--dbname={name}", str(file))
        except StoreError as error:
            raise StoreError(f"{what} cannot be restored: {error}") from None
        async with self._connected(name) as restored:
            require_same(rows, await _rows(restored), what)

    async def put_back(self, file: Path, rows: dict[str, int]) -> Replaced:
        restored = self.name + RESTORED
        try:
            await self._restore(file, restored, rows)
            async with self._connected(restored) as into:
                replaced = await self._carry_over(into)
            async with self._connected(MAINTENANCE) as administrator:
                await administrator.execute(f"GRANT CONNECT ON DATABASE {_quoted(restored)} TO {_quoted(self.owner)}")
            if not await self._there(self.name):
                await self._rename({restored: self.name})
            else:
                await self._drop(self.name + ASIDE)
                await self._rename({self.name: self.name + ASIDE, restored: self.name})
        finally:
            await self._drop(restored)
        return replaced

    async def _carry_over(self, into: Connection) -> Replaced:
        """Whoever has been thrown out since the copy was made, stays out."""
        try:
            async with self._connected(self.name) as before:
                there = Keys.of(await before.fetch(COUNTER), await before.fetch(KEYS))
        except StoreError:
            return Replaced([], False)
        statements = shut_out(Keys.of(await into.fetch(COUNTER), await into.fetch(KEYS)), there)
        for sql, values in statements or ():
            await into.execute(sql, *values)
        return Replaced(keys_in(statements or ()), statements is not None)

    async def undo(self) -> bool:
        if not await self._there(self.name + ASIDE):
            return False
        await self._drop(self.name + RESTORED)
        await self._rename({self.name: self.name + RESTORED, self.name + ASIDE: self.name})
        await self._drop(self.name + RESTORED)
        return True

    async def settle(self) -> None:
        await self._drop(self.name + ASIDE)

    async def _rename(self, names: dict[str, str]) -> None:
        """All of them or none. Raises StoreError where a gateway runs on the database."""
        async with self._connected(MAINTENANCE) as administrator:
            used = await administrator.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY($1) AND application_name = 'paddock-gateway'", list(names)
            )
            if used:
                raise StoreError(f"a gateway runs on {postgres.shown(self.configuration.database)}: stop it first")
            async with administrator.transaction():
                for name, new in names.items():
                    await administrator.execute(f"ALTER DATABASE {_quoted(name)} RENAME TO {_quoted(new)}")

    async def _there(self, name: str) -> bool:
        async with self._connected(MAINTENANCE) as administrator:
            return bool(await administrator.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name))

    async def _drop(self, name: str) -> None:
        async with self._connected(MAINTENANCE) as administrator:
            await administrator.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    @asynccontextmanager
    async def _connected(self, name: str) -> AsyncIterator[Connection]:
        """Raises StoreError, also for what is raised within by Postgres."""
        try:
            said: dict[str, Any] = {"timeout": postgres.CONNECT_S, "server_settings": {"application_name": "paddock-gateway-copies"}}
            connection = await asyncpg.connect(self._at(name), password=self._password, **said)
            try:
                yield connection
            finally:
                await connection.close(timeout=postgres.CONNECT_S)
        except postgres.AWAY as error:
            raise postgres.in_words(error, self._at(name)) from None

    async def _program(self, program: str, name: str, *arguments: str) -> None:
        """One of Postgres' own. Its password is in no argument. Raises StoreError with the last line that it says."""
        parts = urlsplit(self._at(name))
        host = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair).get("host") or parts.hostname or ""
        said = {"PGHOST": host, "PGPORT": str(parts.port or ""), "PGUSER": parts.username or "", "PGPASSWORD": self._password or ""}
        given = {name: value for name, value in {**said, "PGDATABASE": name}.items() if value}
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **given}
        try:
            child = await asyncio.create_subprocess_exec(
                *(program, "--no-password", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                umask=0o077,
            )
        except FileNotFoundError:
            raise StoreError(f"there is no {program} here: the package postgresql-client brings it") from None
        _, told = await child.communicate()
        if child.returncode:
            lines = [line for line in told.decode("utf-8", "replace").splitlines() if "error" in line] or [f"{program}: {child.returncode}"]
            raise StoreError(lines[0])

    def _at(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


async def _rows(connection: Connection) -> dict[str, int]:
    """Table → how many. Those of the schema `public` are called without it."""
    found = {}
    for schema, table in await connection.fetch(TABLES):
        name = table if schema == "public" else f"{schema}.{table}"
        found[name] = await connection.fetchval(f"SELECT count(*) FROM {_quoted(schema)}.{_quoted(table)}", timeout=None)
    return found


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))

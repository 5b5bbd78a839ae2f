"""Makes the tables, or brings those of an older gateway up to date: all in one transaction, so that a kill leaves what was there.

It runs in a process of its own (`python -c "…migrate.main()"`, the configuration on standard input): see store/__init__.py.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import asyncpg
import msgspec
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from paddock_gateway.settings import Configuration
from paddock_gateway.store import postgres, sqlite
from paddock_gateway.store.database import DatabaseAway, StoreError, newer
from paddock_gateway.store.schema import METADATA

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 0x7061646467617465
"""Of advisory locks in Postgres: "paddgate"."""
LOCKED_S = 60
"""How long one migration waits for another."""


def main() -> None:
    """Prints the revision it came to; exits with 1 and a line on standard error."""
    try:
        print(migrate(msgspec.json.decode(sys.stdin.buffer.read(), type=Configuration)))
    except StoreError as error:
        sys.exit(str(error))


def migrate(configuration: Configuration) -> str:
    """The revision that the database has then. Raises StoreError, also where the database is a newer gateway's."""
    path = sqlite.path_in(configuration.database)
    return _in_sqlite(path) if path else asyncio.run(_in_postgres(configuration))


def _in_sqlite(path: Path) -> str:
    opened = sqlite.connect(path, create=True)
    opened.execute(f"PRAGMA busy_timeout = {LOCKED_S * 1000}")
    engine = create_engine("sqlite://", creator=lambda: opened, poolclass=NullPool)
    # The lock of a writer is the migration's lock: taken before the revision is read.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            return _upgrade(connection, str(path))
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise sqlite.in_words(error.orig, path) from None
        raise DatabaseAway(f"{path}: {error.orig}") from None
    finally:
        opened.close()


async def _in_postgres(configuration: Configuration) -> str:
    async def connected() -> asyncpg.Connection[asyncpg.Record]:
        connection = await postgres.connect(configuration, statement_s=None)
        await connection.execute(f"SET lock_timeout = '{LOCKED_S}s'")
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            return await connection.run_sync(_upgrade, postgres.shown(configuration.database))
    except DBAPIError as error:
        cause = getattr(error.orig, "__cause__", None) or error.orig
        raise postgres.in_words(cause or error, configuration.database) from None
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, where: str) -> str:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory(str(MIGRATIONS))
    head = str(script.get_current_head())
    with EnvironmentContext(config, script, fn=lambda revision, _: script._upgrade_revs(head, revision)) as environment:
        environment.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
        there = environment.get_context().get_current_revision()
        if there is not None and there not in {known.revision for known in script.walk_revisions()}:
            raise StoreError(newer(where, there))
        environment.run_migrations()
    return head

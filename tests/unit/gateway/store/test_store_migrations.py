"""The tables: made, brought up to date, and whole whatever happens in between."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

import paddock_gateway
from paddock_gateway.settings import Configuration
from paddock_gateway.store import postgres, sqlite
from paddock_gateway.store.database import REVISION, StoreError
from paddock_gateway.store.migrate import MIGRATIONS, migrate
from paddock_gateway.store.opening import open_database, open_store
from paddock_gateway.store.schema import METADATA

IN_THE_MIDDLE = """
import sys, time
import msgspec
from sqlalchemy import Engine, event
from paddock_gateway.settings import Configuration
from paddock_gateway.store.migrate import migrate

@event.listens_for(Engine, "after_cursor_execute")
def stop(connection, cursor, statement, *rest):
    if "CREATE TABLE llama_requests" in statement:
        print("in the middle", flush=True)
        time.sleep(600)

migrate(msgspec.json.decode(sys.stdin.buffer.read(), type=Configuration))
"""


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA))


async def test_the_migrations_make_the_tables_of_the_schema(configuration: Configuration) -> None:
    path = sqlite.path_in(configuration.database)
    if path:
        with create_engine(f"sqlite:///{path}").connect() as connection:
            assert differences(connection) == []
    else:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: postgres.connect(configuration))
        async with engine.connect() as reading:
            assert await reading.run_sync(differences) == []
        await engine.dispose()


def test_the_newest_migration_is_the_one_that_the_gateway_speaks() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == REVISION


async def test_a_first_start_makes_the_tables(empty: Configuration) -> None:
    store = await open_store(empty)
    key, _ = await store.users.create("ann")
    await store.close()
    again = await open_store(empty)
    assert (await again.keys.account(key)).user == "ann"
    await again.close()


def test_a_migration_that_is_killed_leaves_nothing_and_the_next_goes_through(empty: Configuration) -> None:
    child = subprocess.Popen([sys.executable, "-c", IN_THE_MIDDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path_of_this())
    assert child.stdin and child.stdout
    child.stdin.write(msgspec.json.encode(empty))
    child.stdin.close()
    assert child.stdout.readline() == b"in the middle\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    async def tables() -> list[bool]:
        database = await open_database(empty)
        try:
            return [await database.has_table(name) for name in ("users", "llama_requests", "lendings", "alembic_version")]
        finally:
            await database.close()

    assert asyncio.run(tables()) == [False] * 4
    assert migrate(empty) == REVISION
    assert asyncio.run(tables()) == [True] * 4


def test_two_that_migrate_at_once_both_go_on(empty: Configuration) -> None:
    program = "from paddock_gateway.store.migrate import main; print('ready', flush=True); main()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path_of_this())
    assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
    child.stdin.write(msgspec.json.encode(empty))
    child.stdin.close()
    assert migrate(empty) == REVISION
    assert child.stdout.read() == f"{REVISION}\n".encode()
    assert child.wait() == 0
    child.stdout.close()


def test_a_database_of_a_newer_version_is_refused_in_words(configuration: Configuration) -> None:
    async def made_newer() -> None:
        database = await open_database(configuration)
        async with database.transaction(write=True) as transaction:
            await transaction.fetch("UPDATE alembic_version SET version_num = '9999'")
        await database.close()

    asyncio.run(made_newer())
    with pytest.raises(StoreError, match=r"newer paddock-gateway .*9999.* install that version"):
        asyncio.run(open_store(configuration))
    with pytest.raises(StoreError, match=r"newer paddock-gateway .*9999.* install that version"):
        migrate(configuration)


def test_what_serves_is_spared_sqlalchemy() -> None:
    """Its import takes 25 MiB, of the 64 that a gateway may have."""
    program = "import sys, paddock_gateway.store.opening; print([name for name in ('sqlalchemy', 'alembic') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], env=path_of_this(), capture_output=True, text=True).stdout == "[]\n"


def test_the_wheel_brings_its_migrations(on_sqlite: Configuration, tmp_path: Path) -> None:
    source = Path(paddock_gateway.__file__).parents[1]
    subprocess.run([sys.executable, "-m", "flit_core.wheel", "--outdir", tmp_path], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    configuration = msgspec.json.encode(msgspec.structs.replace(on_sqlite, database=f"sqlite:{tmp_path}/new.db"))
    program = "from paddock_gateway.store import migrate; migrate.main(); print(migrate.__file__)"
    path = {"PYTHONPATH": f"{tmp_path}/installed"}
    done = subprocess.run([sys.executable, "-c", program], input=configuration, env=path, cwd=tmp_path, capture_output=True)
    assert done.stdout.decode().split() == [REVISION, f"{tmp_path}/installed/paddock_gateway/store/migrate.py"], done.stderr


def path_of_this() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}

"""Copies of the database: whole, known to be so, and before a migration always there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import paddock_gateway
from paddock_gateway.settings import Configuration
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import REVISION, StoreError
from paddock_gateway.store.dumps import Dumps
from paddock_gateway.store.opening import open_database, open_store
from tests.postgres import Postgres

ADDS = 'op.add_column("users", sa.Column("later", sa.Text))'
FAILS = f"""{ADDS}
    op.execute("DELETE FROM keys")
    op.execute("SELECT * FROM nowhere")"""

LATER = '''"""Later."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    {}
'''

Later = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dumps(configuration: Configuration, tmp_path: Path) -> Dumps:
    (tmp_path / "copies").mkdir()
    return Dumps(tmp_path / "copies", configuration)


@pytest.fixture
def later(configuration: Configuration, tmp_path: Path) -> Later:
    """Runs `prepare` of a later gateway, whose migration does this."""

    def run(does: str, serves: str = "") -> subprocess.CompletedProcess[str]:
        package = tmp_path / "later" / "paddock_gateway"
        shutil.copytree(Path(paddock_gateway.__file__).parent, package, dirs_exist_ok=True)
        (package / "store/migrations/versions/v0002_later.py").write_text(LATER.format(does))
        database = package / "store" / "database.py"
        database.write_text(database.read_text().replace('REVISION = "0001"', 'REVISION = "0002"'))
        (package / "app.py").write_text((Path(paddock_gateway.__file__).parent / "app.py").read_text() + serves)
        (tmp_path / "gateway.json").write_bytes(msgspec.json.encode(configuration))
        command = [sys.executable, "-m", "paddock_gateway", "--configuration", str(tmp_path / "gateway.json")]
        path = {**os.environ, "PYTHONPATH": ":".join([str(package.parent), *sys.path])}
        return subprocess.run(
            [*command, "prepare", "--json", "--directory", str(tmp_path / "kept")], env=path, cwd=tmp_path, capture_output=True, text=True
        )

    return run


async def fill(configuration: Configuration, *users: str) -> dict[str, str]:
    """Each with a key; user → key."""
    store = await open_store(configuration)
    try:
        return {user: (await store.users.create(user))[0] for user in users}
    finally:
        await store.close()


async def let_in(configuration: Configuration) -> list[str]:
    store = await open_store(configuration)
    try:
        return sorted(each.user for each in await store.users.list() if not each.disabled)
    finally:
        await store.close()


async def asked(configuration: Configuration, sql: str) -> Any:
    database = await open_database(configuration)
    try:
        async with database.transaction(write=True) as transaction:
            return [tuple(row) for row in await transaction.fetch(sql)]
    finally:
        await database.close()


def spoil(configuration: Configuration) -> None:
    """It serves on, but no copy of it can be restored."""
    path = sqlite.path_in(configuration.database)
    if path is None:  # a function that finds its table by a search path, which a restore has none of
        statements = (
            "CREATE FUNCTION known(name text) RETURNS boolean LANGUAGE sql AS 'SELECT count(*) >= 0 FROM changes'",
            "ALTER TABLE users ADD CONSTRAINT odd CHECK (known(name))",
        )
        for each in statements:
            asyncio.run(asked(configuration, each))
        return
    index = "name = 'keys_username'"  # rows go while nobody minds the index
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        [row] = database.execute(f"SELECT * FROM sqlite_master WHERE {index}").fetchall()
        database.execute(f"DELETE FROM sqlite_master WHERE {index}")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DELETE FROM keys WHERE username = 'bob'")
        database.execute("PRAGMA writable_schema = ON")
        database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


@pytest.fixture
def mended(configuration: Configuration, request: pytest.FixtureRequest) -> Any:
    """What was spoilt in a database that tests share."""
    yield
    if not sqlite.path_in(configuration.database):
        server: Postgres = request.getfixturevalue("server")
        server.sql("ALTER TABLE users DROP CONSTRAINT IF EXISTS odd", "DROP FUNCTION IF EXISTS known", database="migrated")
        server.sql("ALTER TABLE users DROP COLUMN IF EXISTS later", database="migrated")


async def test_a_copy_made_beside_a_gateway_that_runs_is_put_back_whole(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann", "bob")
    store = await open_store(configuration)
    made = await dumps.make("asked")
    await store.close()
    assert made.rows["users"] == made.rows["keys"] == 2 and made.revision == REVISION
    assert dumps.records() == [made]
    assert {path.stat().st_mode & 0o777 for path in dumps.directory.iterdir()} == {0o600}
    await asked(configuration, "DELETE FROM llama_requests")
    await fill(configuration, "carol")
    replaced = await dumps.put_back(made.name)
    assert replaced.known and replaced.revoked == []
    assert await let_in(configuration) == ["ann", "bob"]


async def test_what_was_put_back_is_taken_back_or_kept(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann")
    made = await dumps.make("asked")
    await fill(configuration, "bob")
    await dumps.put_back(made.name)
    assert await dumps.source.undo()
    assert await let_in(configuration) == ["ann", "bob"]
    assert not await dumps.source.undo()
    await dumps.put_back(made.name)
    await dumps.source.settle()
    assert not await dumps.source.undo()
    assert await let_in(configuration) == ["ann"]


async def test_a_copy_lets_in_nobody_who_was_thrown_out_since(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann", "bob", "carol", "dave", "erin")
    made = await dumps.make("asked")
    store = await open_store(configuration)
    ids = {each.user: each.id for each in await store.users.list()}
    await store.users.revoke(ids["ann"])
    await store.users.delete_user("bob")
    await store.users.set_disabled(ids["carol"], True)
    await store.users.set_user_disabled("dave", True)
    await store.close()
    replaced = await dumps.put_back(made.name)
    assert replaced.known and sorted(replaced.revoked) == sorted(ids[user] for user in ("ann", "bob", "carol", "dave"))
    assert await let_in(configuration) == ["erin"]
    await dumps.source.settle()
    assert (await dumps.put_back(made.name)).known, "what was put back is newer than the copy"
    assert await let_in(configuration) == ["erin"]


async def test_a_database_that_is_new_cannot_say_who_was_thrown_out(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann")
    made = await dumps.make("asked")
    for each in ("DELETE FROM keys", "DELETE FROM users", "UPDATE changes SET counter = 0"):
        await asked(configuration, each)
    assert not (await dumps.put_back(made.name)).known
    assert await let_in(configuration) == ["ann"]


async def test_a_copy_travels(dumps: Dumps, configuration: Configuration, tmp_path: Path) -> None:
    await fill(configuration, "ann")
    made, sent = await dumps.make("asked"), io.BytesIO()
    dumps.send(made.name, sent)
    (tmp_path / "elsewhere").mkdir()
    other = Dumps(tmp_path / "elsewhere", configuration)
    line = msgspec.json.encode(made) + b"\n"
    assert other.receive(io.BytesIO(line + sent.getvalue())) == made
    await other.put_back(made.name)
    for data, why in (
        (line + sent.getvalue()[:-1], "has not come whole"),
        (line + b"x" + sent.getvalue()[1:], "has not come whole"),
        (sent.getvalue(), "is no copy of a database"),
        (msgspec.json.encode(msgspec.structs.replace(made, name="../../etc/x")) + b"\n", "is no copy of a database"),
    ):
        with pytest.raises(StoreError, match=why):
            other.receive(io.BytesIO(data))
    assert other.records() == [made] and not list(other.directory.glob("*.part"))


async def test_a_copy_that_was_damaged_is_not_put_back(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann")
    made = await dumps.make("asked")
    with (dumps.directory / f"{made.name}.dump").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match="is damaged: its SHA-256"):
        await dumps.put_back(made.name)
    wrong = await dumps.make("asked")
    (dumps.directory / f"{wrong.name}.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(wrong, rows={**wrong.rows, "keys": 7}))
    )
    with pytest.raises(StoreError, match="of 7 rows of the table keys 1 came back"):
        await dumps.put_back(wrong.name)
    assert await let_in(configuration) == ["ann"]


async def test_nothing_is_put_back_below_a_gateway_that_runs(dumps: Dumps, configuration: Configuration) -> None:
    await fill(configuration, "ann")
    made = await dumps.make("asked")
    store = await open_store(configuration)
    try:
        with pytest.raises(StoreError, match=r"a gateway runs on .*stop it first"):
            await dumps.put_back(made.name)
    finally:
        await store.close()
    assert await let_in(configuration) == ["ann"]


def test_a_migration_goes_first_on_a_copy_and_then_on_the_data(
    configuration: Configuration, later: Later, tmp_path: Path, mended: None
) -> None:
    asyncio.run(fill(configuration, "ann"))
    done = later(ADDS)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["migrated"] and said["revision"] == "0002"
    assert asyncio.run(asked(configuration, "SELECT name, later FROM users")) == [("ann", None)]
    [kept] = tmp_path.glob("kept/*/*.json")
    assert json.loads(kept.read_bytes())["rows"]["users"] == 1 and kept.stem == said["copy"]
    again = later(ADDS)
    assert again.returncode == 0 and json.loads(again.stdout) == {"migrated": False}
    assert len(list(tmp_path.glob("kept/*/*.json"))) == 1


def test_a_migration_that_fails_leaves_the_data_and_the_old_version_serving(
    configuration: Configuration, later: Later, tmp_path: Path, mended: None
) -> None:
    async def serving() -> subprocess.CompletedProcess[str]:
        store = await open_store(configuration)
        try:
            done = await asyncio.to_thread(later, FAILS)
            await store.users.create("bob")
            return done
        finally:
            await store.close()

    asyncio.run(fill(configuration, "ann"))
    done = asyncio.run(serving())
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "fails on a copy of it, so nothing was changed" in done.stderr and "nowhere" in done.stderr
    assert asyncio.run(let_in(configuration)) == ["ann", "bob"]
    assert asyncio.run(asked(configuration, "SELECT version_num FROM alembic_version")) == [(REVISION,)]
    assert not list(tmp_path.glob("kept/*/*.part")) and not list(tmp_path.glob("kept/*/scratch*"))


def test_a_version_that_migrates_well_and_does_not_serve_leaves_the_data_as_they_are(
    configuration: Configuration, later: Later, tmp_path: Path, mended: None
) -> None:
    asyncio.run(fill(configuration, "ann"))
    done = later(ADDS, "\nraise SystemExit('there is no such place')\n")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "this version does not serve with it: there is no such place" in done.stderr
    assert asyncio.run(asked(configuration, "SELECT version_num FROM alembic_version")) == [(REVISION,)]
    assert [path.name for path in tmp_path.glob("kept/*/*")] == ["lock"]
    assert asyncio.run(let_in(configuration)) == ["ann"], "who was made to try it is gone"


async def test_a_migration_is_taken_back_with_all_rows_and_lets_in_nobody_who_was_thrown_out_since(
    dumps: Dumps, configuration: Configuration
) -> None:
    await fill(configuration, "ann", "bob")
    made = await dumps.make("before-migration")
    assert await dumps.take_back(made.name) is None, "it was not migrated"
    store = await open_store(configuration)
    [bobs] = [each.id for each in await store.users.list("bob")]
    await store.users.revoke(bobs)
    await store.close()
    await asked(configuration, "UPDATE alembic_version SET version_num = '0009' RETURNING version_num")
    replaced = await dumps.take_back(made.name)
    assert replaced and replaced.known and replaced.revoked == [bobs]
    assert await asked(configuration, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert len(await asked(configuration, "SELECT id FROM keys")) == 2 and await let_in(configuration) == ["ann"]
    assert await dumps.take_back(made.name) is None, "once is enough"


def test_a_copy_that_cannot_be_restored_stops_the_migration(
    configuration: Configuration, later: Later, tmp_path: Path, mended: None
) -> None:
    asyncio.run(fill(configuration, "ann", "bob"))
    spoil(configuration)
    done = later(ADDS)
    assert done.returncode == 1 and "cannot be restored" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert asyncio.run(asked(configuration, "SELECT version_num FROM alembic_version")) == [(REVISION,)]
    assert not list(tmp_path.glob("kept/*/*.dump"))


def test_an_account_passes_through_to_its_copies_whatever_the_umask(configuration: Configuration, tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_bytes(msgspec.json.encode(configuration))
    program = [sys.executable, "-m", "paddock_gateway", "--configuration", str(tmp_path / "gateway.json")]
    path = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([*program, "copies", "list", "--directory", str(tmp_path / "kept")], env=path, umask=0o077, capture_output=True)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)

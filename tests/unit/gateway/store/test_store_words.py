"""What is wrong with a database, said in a line that tells what to do."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock_gateway.settings import Configuration, SettingsError
from paddock_gateway.store.database import StoreError
from paddock_gateway.store.migrate import migrate
from paddock_gateway.store.opening import open_store


def told(configuration: Configuration) -> str:
    """One line, no key, no traceback."""
    with pytest.raises((StoreError, SettingsError)) as refused:
        asyncio.run(open_store(configuration))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def changed(configuration: Configuration, **change: Any) -> Configuration:
    return msgspec.structs.replace(configuration, **change)


def as_nobody(told: Callable[[], str]) -> str:
    """What `told` gives in a process of a user who owns nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, told().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answer:
        return answer.read().decode()


def test_a_file_that_is_no_database(on_sqlite: Configuration, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text("users: ann, bob\n" * 1000)
    assert re.search(r"gateway\.db is no SQLite database: move the file away", told(on_sqlite))
    assert (tmp_path / "gateway.db").read_text().startswith("users: ann")


def test_a_directory(on_sqlite: Configuration, tmp_path: Path) -> None:
    assert "is a directory: the database is a file" in told(changed(on_sqlite, database=f"sqlite:{tmp_path}"))


def test_a_directory_that_is_not_there(on_sqlite: Configuration, tmp_path: Path) -> None:
    assert f"{tmp_path}/no/gateway.db" in told(changed(on_sqlite, database=f"sqlite:{tmp_path}/no/gateway.db"))
    assert "the directory must be there" in told(changed(on_sqlite, state=f"{tmp_path}/no"))


def test_a_file_without_permission(on_sqlite: Configuration, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").chmod(0o400)

    def refused() -> str:
        try:
            migrate(on_sqlite)
        except StoreError as error:
            return str(error)
        return "let in"

    assert re.search(r"no permission to write there as \w+|Permission denied", as_nobody(refused))


def test_a_database_of_another_kind(on_sqlite: Configuration) -> None:
    assert "write sqlite:/var/lib" in told(changed(on_sqlite, database="mysql://home.example/gateway"))


def test_another_program_holds_the_lock(on_sqlite: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.store.sqlite.BUSY_S", 0.05)
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert "another program has held its lock" in told(on_sqlite)
    other.close()


async def test_a_second_gateway_on_one_file(on_sqlite: Configuration, tmp_path: Path) -> None:
    store = await open_store(on_sqlite)
    (tmp_path / "other").mkdir()
    try:
        with pytest.raises(
            StoreError, match=rf"another gateway \(process {os.getpid()}\) runs on .*gateway\.db: SQLite is for one gateway"
        ):
            await open_store(changed(on_sqlite, state=str(tmp_path / "other")))
        with pytest.raises(StoreError, match="give each its own `state`"):
            await open_store(on_sqlite)
    finally:
        await store.close()
    await (await open_store(on_sqlite)).close()


def test_a_wrong_password(on_postgres: Configuration, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("another")
    words = told(on_postgres)
    assert "lets the user not in" in words and "database_password_file" in words and "another" not in words


def test_a_password_file_that_is_not_there(on_postgres: Configuration, tmp_path: Path) -> None:
    (tmp_path / "password").unlink()
    assert f"database_password_file {tmp_path}/password: No such file" in told(on_postgres)


def test_a_database_that_postgres_does_not_have(on_postgres: Configuration) -> None:
    other = on_postgres.database.replace("/migrated", "/nothing")
    assert re.search(r'database "nothing" does not exist: make it', told(changed(on_postgres, database=other)))


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("postgresql://gateway@/gateway?host=/nowhere", "nobody answers there: start Postgres"),
        ("postgresql://gateway@127.0.0.1:1/gateway", "nobody answers there: start Postgres"),
        ("postgresql://gateway@nowhere.invalid/gateway", "the name of its host leads nowhere"),
        ("postgresql://gateway:secret@127.0.0.1:1/gateway", "postgresql://gateway@127.0.0.1:1/gateway: nobody"),
        ("postgresql://gateway@127.0.0.1:many/gateway", "write postgresql://USER@HOST:PORT/NAME"),
    ],
)
def test_a_postgres_that_is_not_there(on_sqlite: Configuration, database: str, words: str) -> None:
    said = told(changed(on_sqlite, database=database))
    assert words in said and "secret" not in said


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [("short", 0o600, "holds 5 characters, 32 are needed"), ("p" * 40, 0o604, "is open to every user of this machine: chmod o=")],
)
def test_a_pepper_that_keeps_no_secret(on_sqlite: Configuration, tmp_path: Path, content: str, mode: int, words: str) -> None:
    (tmp_path / "pepper").write_text(content)
    (tmp_path / "pepper").chmod(mode)
    assert words in told(on_sqlite)


def test_a_spool_that_cannot_be_opened(on_sqlite: Configuration, tmp_path: Path) -> None:
    (tmp_path / "requests.spool").mkdir()
    assert "the spool of the request log cannot be opened" in told(on_sqlite)

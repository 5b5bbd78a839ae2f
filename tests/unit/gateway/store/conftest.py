"""A real SQLite file and a real Postgres, with the gateway's tables, for each test one of its own."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock_gateway.settings import Configuration
from paddock_gateway.store.database import REVISION
from paddock_gateway.store.migrate import migrate
from tests.postgres import PASSWORD, Postgres, running_postgres

PEPPER = "p" * 40
NUMBERS = count()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}))
    return True


def configuration_at(place: Path, database: str, **more: Any) -> Configuration:
    """A configuration with its files under `place`."""
    for name, content in (("pepper", PEPPER), ("password", PASSWORD)):
        (place / name).write_text(content)
        (place / name).chmod(0o600)
    said = {
        "listen": ["127.0.0.1:8001"],
        "database": database,
        "database_password_file": str(place / "password") if database.startswith("postgres") else "",
        "pepper_file": str(place / "pepper"),
        "state": str(place),
        "backends": {"one": {"url": "http://127.0.0.1:8080"}},
        "models": {"qwen": {"targets": [{"backend": "one", "model": "qwen-3b"}], "aliases": ["default"]}},
        "log": {"every_s": 0.02},
    }
    return msgspec.convert(said | more, Configuration)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with running_postgres() as made:
        yield made


@pytest.fixture(scope="session")
def migrated_postgres(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with the tables, which are emptied for each test: a new database takes most of a second."""
    server.sql("CREATE DATABASE migrated")
    migrate(configuration_at(tmp_path_factory.mktemp("migrated"), server.url("migrated")))
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("migrated")
    migrate(configuration_at(place, f"sqlite:{place}/gateway.db"))
    return place / "gateway.db"


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Configuration:
    """Of a database without tables; a SQLite file that is not there yet."""
    if request.param == "sqlite":
        return configuration_at(tmp_path, f"sqlite:{tmp_path}/gateway.db")
    server: Postgres = request.getfixturevalue("server")
    name = f"test_{next(NUMBERS)}"
    server.sql(f"CREATE DATABASE {name}")
    return configuration_at(tmp_path, server.url(name))


@pytest.fixture
def on_sqlite(tmp_path: Path, migrated_sqlite: Path) -> Configuration:
    shutil.copyfile(migrated_sqlite, tmp_path / "gateway.db")
    return configuration_at(tmp_path, f"sqlite:{tmp_path}/gateway.db")


@pytest.fixture
def on_postgres(tmp_path: Path, server: Postgres, migrated_postgres: str) -> Configuration:
    server.sql(
        "TRUNCATE users, keys, llama_requests, lendings",
        f"UPDATE alembic_version SET version_num = '{REVISION}'",
        database=migrated_postgres,
    )
    return configuration_at(tmp_path, server.url(migrated_postgres))


@pytest.fixture(params=["sqlite", "postgres"])
def configuration(request: pytest.FixtureRequest) -> Configuration:
    """Of a database with the tables and nothing in them."""
    made: Configuration = request.getfixturevalue(f"on_{request.param}")
    return made

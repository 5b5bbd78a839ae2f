"""A real Postgres for tests, in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

PASSWORD = "opens-the-tests-database"
STARTS_S = 30.0


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    made = Postgres()
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.home)


class Postgres:
    """A server on a Unix socket in a directory of its own. `url` is of a database in it."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        assert found, "these tests need Postgres: scripts/setup dev installs it"
        self.programs = found[-1]
        self.home = Path(tempfile.mkdtemp(prefix="paddock-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        (self.home / "password").write_text(PASSWORD)
        if self.user:
            shutil.chown(self.home, self.user)
            shutil.chown(self.home / "password", self.user)
        self._run(
            "initdb",
            "--pgdata=data",
            "--username=gateway",
            "--auth=scram-sha-256",
            "--pwfile=password",
            "--no-sync",
            "--wal-segsize=1",
            "--locale=C.UTF-8",
        )
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, cwd=self.home, user=self.user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Also after a kill: what is left of the server that was killed takes a moment to end, and until then no other starts."""
        ends = time.monotonic() + STARTS_S
        while not self._started():
            assert time.monotonic() < ends, (self.home / "log").read_text()
            time.sleep(0.1)

    def _started(self) -> bool:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.home), "fsync": "off", "shared_buffers": "16MB"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [f"{self.programs}/postgres", "-D", "data", *options], cwd=self.home, user=self.user, stdout=log, stderr=log
            )
        ready = [f"{self.programs}/pg_isready", "--quiet", f"--host={self.home}"]
        while subprocess.run(ready).returncode:
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return True

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """At once: what runs in it is cut off. SIGINT ends it in order, SIGKILL leaves it no time for anything."""
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def url(self, name: str) -> str:
        return f"postgresql://gateway@/{name}?host={self.home}"

    def sql(self, *statements: str, database: str = "postgres") -> None:
        async def said() -> None:
            connection = await asyncpg.connect(self.url(database), password=PASSWORD)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(said())


def rows_at(url: str, question: str) -> list[tuple[Any, ...]]:
    """Of a database at the URL that `Postgres.url` gives."""

    async def said() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url, password=PASSWORD)
        try:
            return [tuple(row) for row in await connection.fetch(question)]
        finally:
            await connection.close()

    return asyncio.run(said())

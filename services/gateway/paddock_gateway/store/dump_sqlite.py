"""A SQLite file copied by SQLite's own backup call (https://www.sqlite.org/backup.html), and put back beside itself."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from paddock_gateway.settings import Configuration
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import StoreError
from paddock_gateway.store.revoked import COUNTER, KEYS, Keys, keys_in, shut_out
from paddock_gateway.store.sources import Replaced, require_same

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite may leave beside a file."""

LOCK = ".lock"
"""What a gateway leaves beside it."""


class SqliteSource:
    """dumps.Source."""

    kind = "sqlite"

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self.path, self.access = path, configuration
        self.aside = path.with_name(f"{path.name}.before")

    async def copy(self, file: Path) -> dict[str, int]:
        return await asyncio.to_thread(self._copy, self.path, file)

    def _copy(self, path: Path, file: Path) -> dict[str, int]:
        """Of the rows first: a read transaction holds the snapshot that the copy is of."""
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        with _said(path), closing(sqlite.connect(path)) as source, closing(sqlite3.connect(file, isolation_level=None)) as target:
            source.execute("BEGIN")
            rows = _rows(source)
            source.backup(target)
            source.execute("ROLLBACK")
            target.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, with nothing beside it
        return rows

    async def restore(self, file: Path, rows: dict[str, int], work: Callable[[Configuration], object] | None = None) -> None:
        scratch = file.with_name("scratch.db")
        try:
            await asyncio.to_thread(self._restore, file, scratch, rows)
            if work:
                await asyncio.to_thread(work, msgspec.structs.replace(self.access, database=f"sqlite:{scratch}"))
        finally:
            _remove(scratch)
            scratch.with_name(f"{scratch.name}{LOCK}").unlink(missing_ok=True)

    def _restore(self, file: Path, scratch: Path, rows: dict[str, int]) -> None:
        _remove(scratch)
        what = f"the copy {file.name}"
        try:
            self._copy(file, scratch)
            with closing(sqlite3.connect(scratch, isolation_level=None)) as restored:
                [said] = restored.execute("PRAGMA integrity_check(1)").fetchone()
                if said != "ok":
                    raise StoreError(f"{what} cannot be restored: {said}")
                require_same(rows, _rows(restored), what)
        except sqlite3.Error as error:
            raise StoreError(f"{what} cannot be restored: {error}") from None

    async def put_back(self, file: Path, rows: dict[str, int]) -> Replaced:
        return await asyncio.to_thread(self._put_back, file, rows)

    def _put_back(self, file: Path, rows: dict[str, int]) -> Replaced:
        with self._alone():
            restored = self.path.with_name(f"{self.path.name}.restored")
            try:
                self._restore(file, restored, rows)
                with closing(sqlite3.connect(restored, isolation_level=None)) as into:
                    replaced = self._carry_over(into)
                if self.path.exists():
                    self._put_aside()
                restored.replace(self.path)
            finally:
                _remove(restored)
        return replaced

    def _carry_over(self, into: sqlite3.Connection) -> Replaced:
        """Whoever has been thrown out since the copy was made, stays out."""
        with suppress(StoreError, sqlite3.Error), closing(sqlite.connect(self.path)) as before:
            copied, there = (Keys.of(each.execute(COUNTER).fetchall(), each.execute(KEYS).fetchall()) for each in (into, before))
            if (statements := shut_out(copied, there)) is not None:
                for sql, values in statements:
                    into.execute(sqlite.numbered(sql), values)
                return Replaced(keys_in(statements), True)
        return Replaced([], False)

    def _put_aside(self) -> None:
        """A link, so that there is a database at every moment. What is written ahead is in it first, where the file can be read."""
        _remove(self.aside)
        with suppress(StoreError, sqlite3.Error), closing(sqlite.connect(self.path)) as before:
            before.execute("PRAGMA journal_mode = DELETE").fetchall()
        self.aside.hardlink_to(self.path)
        for end in BESIDE:
            with suppress(FileNotFoundError):
                self.path.with_name(f"{self.path.name}{end}").rename(self.aside.with_name(f"{self.aside.name}{end}"))

    async def undo(self) -> bool:
        with self._alone():
            if not self.aside.exists():
                return False
            for end in BESIDE:
                self.path.with_name(f"{self.path.name}{end}").unlink(missing_ok=True)
            self.aside.replace(self.path)
            for end in BESIDE:
                with suppress(FileNotFoundError):
                    self.aside.with_name(f"{self.aside.name}{end}").rename(self.path.with_name(f"{self.path.name}{end}"))
        return True

    async def settle(self) -> None:
        _remove(self.aside)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A gateway holds this lock for as long as it runs (opening.open_store)."""
        lock = self.path.with_name(f"{self.path.name}{LOCK}")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"{lock}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise StoreError(f"a gateway runs on {self.path}: stop it first") from None
        finally:
            os.close(handle)


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'").fetchall()
    quoted = {name: '"{}"'.format(name.replace('"', '""')) for (name,) in tables}
    return {name: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for name, table in quoted.items()}


def _remove(path: Path) -> None:
    for end in ("", *BESIDE):
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise sqlite.in_words(error, path) from None

"""Copies of the database: each restored into a scratch database and its rows counted before it counts as one, and kept by number.

    NAME.dump    the copy: a SQLite file, or what `pg_dump --format=custom` writes
    NAME.json    what is known of it: see Record. It comes last, so that a copy without it is none

They lie in a directory of the account that may read the whole database: the owner of the SQLite file, or `postgres`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

import msgspec

from paddock_gateway.settings import Configuration
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import REVISION, StoreError, newer, revision
from paddock_gateway.store.opening import open_database, where
from paddock_gateway.store.sources import Replaced, source_of

BEFORE_MIGRATION, TRIAL = "before-migration", "trial"
KEPT = 3
"""Of copies that were made for one reason."""

NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[a-z-]{1,32}")
MIB = 1 << 20


class Record(msgspec.Struct, frozen=True):
    """What is known of a copy. `rows` is table → how many, counted in the snapshot that was copied; `created` is `2026-11-30T15:51:34Z`."""

    name: str
    database: str
    revision: str
    created: str
    size: int
    sha256: str
    rows: dict[str, int]
    gateway: str


class Dumps:
    """The copies in a directory, which this account has to itself."""

    def __init__(self, directory: Path, configuration: Configuration) -> None:
        self.directory, self.configuration = directory, configuration
        self.source = source_of(configuration)

    async def make(self, why: str) -> Record:
        """A copy that is known to be whole. Raises StoreError; then there is none."""
        with self._locked(), _in_words(self.directory):
            return await self._make(why)

    async def prepare(self, tried: Callable[[Configuration], object]) -> Record | None:
        """Where this gateway's tables are newer than those that are there: a copy, after `tried` has migrated what was restored from it,
        and served with that. None where there is nothing to migrate. Raises StoreError, also where the database is a newer gateway's."""
        with self._locked(), _in_words(self.directory):
            if not await is_due(self.source.access):
                return None
            await self.source.settle()
            return await self._make(BEFORE_MIGRATION, tried)

    async def try_out(self, tried: Callable[[Configuration], object]) -> None:
        """As `prepare`, whether there is something to migrate or not. No copy stays. Raises StoreError."""
        with self._locked(), _in_words(self.directory):
            await is_due(self.source.access)
            self.remove((await self._make(TRIAL, tried)).name)

    async def _make(self, why: str, tried: Callable[[Configuration], object] | None = None) -> Record:
        for left in self.directory.glob("*.part"):
            left.unlink()
        now = datetime.now(timezone.utc)
        name = f"{now:%Y%m%dT%H%M%S.%f}Z-{why}"
        part = self.directory / f"{name}.part"
        try:
            rows = await self.source.copy(part)
            there = await self._revision()
            await self.source.restore(part, rows, self._tried(tried, there != REVISION) if tried else None)
            record = Record(name, self.source.kind, there, f"{now:%Y-%m-%dT%H:%M:%SZ}", part.stat().st_size, sha256(part), rows, _version())
            _sync(part)
            part.replace(self._file(name))
        finally:
            part.unlink(missing_ok=True)
        self._write(record)
        for old in [each for each in self.records() if each.name.endswith(why)][:-KEPT]:
            self.remove(old.name)
        return record

    def _tried(self, tried: Callable[[Configuration], object], migrates: bool) -> Callable[[Configuration], None]:
        what = (
            f"the migration of {where(self.configuration)} to {REVISION}" if migrates else f"this version with {where(self.configuration)}"
        )

        def work(scratch: Configuration) -> None:
            try:
                tried(scratch)
            except StoreError as error:
                raise StoreError(f"{what} fails on a copy of it, so nothing was changed: {error}") from None

        return work

    async def _revision(self) -> str:
        database = await open_database(self.source.access)
        try:
            return await revision(database) or ""
        finally:
            await database.close()

    async def put_back(self, name: str) -> Replaced:
        """Raises StoreError; then all is as before."""
        with self._replacing(name) as record:
            return await self.source.put_back(self._file(name), record.rows)

    async def take_back(self, name: str) -> Replaced | None:
        """As `put_back`, of a migration: None where the database has the tables of the copy. Raises StoreError also where it cannot say who
        was thrown out since."""
        with self._replacing(name) as record:
            if await self._revision() == record.revision:
                return None
            replaced = await self.source.put_back(self._file(name), record.rows)
            if not replaced.known:
                await self.source.undo()
                raise StoreError(f"{where(self.configuration)}: nobody can tell who was thrown out since {name} was made")
            return replaced

    @contextmanager
    def _replacing(self, name: str) -> Iterator[Record]:
        record = self.record(name)
        if record.revision > REVISION:
            raise StoreError(newer(f"the copy {name}", record.revision))
        if record.database != self.source.kind:
            raise StoreError(f"the copy {name} is of {record.database}, and {where(self.configuration)} is not")
        with self._locked(), _in_words(self.directory):
            if sha256(self._file(name)) != record.sha256:
                raise StoreError(f"{self._file(name)}: is damaged: its SHA-256 is not the one that was noted")
            yield record

    def receive(self, stream: BinaryIO) -> Record:
        """A copy from elsewhere: a line with its record, then its bytes. Raises StoreError where it is not what its record says."""
        try:
            record = msgspec.json.decode(stream.readline(MIB), type=Record)
        except msgspec.DecodeError as error:
            raise StoreError(f"what comes is no copy of a database: {error}") from None
        if not NAME.fullmatch(record.name):
            raise StoreError("what comes is no copy of a database: it has no name of one")
        with self._locked(), _in_words(self.directory):
            part, left = self.directory / f"{record.name}.part", record.size
            try:
                with _private(part) as file:
                    while left and (block := stream.read(min(left, MIB))):
                        left -= len(block)
                        file.write(block)
                if left or sha256(part) != record.sha256:
                    raise StoreError(f"the copy {record.name} has not come whole: its SHA-256 is not the one that was noted")
                part.replace(self._file(record.name))
            finally:
                part.unlink(missing_ok=True)
            self._write(record)
        return record

    def send(self, name: str, stream: BinaryIO) -> None:
        self.record(name)
        with _in_words(self.directory), self._file(name).open("rb") as file:
            while block := file.read(MIB):
                stream.write(block)
        stream.flush()

    def records(self) -> list[Record]:
        """The oldest first."""
        names = (path.stem for path in sorted(self.directory.glob("*.json")) if os.access(path, os.R_OK))
        return [self.record(name) for name in names if NAME.fullmatch(name)]

    def record(self, name: str) -> Record:
        """Raises StoreError where there is no such copy."""
        try:
            if not NAME.fullmatch(name):
                raise FileNotFoundError
            return msgspec.json.decode((self.directory / f"{name}.json").read_bytes(), type=Record)
        except FileNotFoundError:
            have = ", ".join(path.stem for path in sorted(self.directory.glob("*.json"))) or "none"
            raise StoreError(f"{name}: there is no such copy in {self.directory}; it has {have}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{self.directory / name}.json: {error}") from None

    def remove(self, name: str) -> None:
        for path in (self.directory / f"{name}.json", self._file(name)):
            path.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.dump"

    def _write(self, record: Record) -> None:
        part = self.directory / f"{record.name}.json.part"
        with _private(part) as file:
            file.write(msgspec.json.encode(record))
        _sync(part)
        part.replace(self.directory / f"{record.name}.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time makes or takes copies; another waits."""
        try:
            handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"{self.directory}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


async def is_due(configuration: Configuration) -> bool:
    """Whether this gateway's tables are newer than those that are there. Raises StoreError where those are a newer gateway's."""
    path = sqlite.path_in(configuration.database)
    if path and not os.path.lexists(path):
        return False
    database = await open_database(configuration)
    try:
        there = await revision(database)
    finally:
        await database.close()
    if there is not None and there > REVISION:
        raise StoreError(newer(where(configuration), there))
    return there is not None and there != REVISION


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        yield file


@contextmanager
def _in_words(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or directory}: {error.strerror or error}") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _version() -> str:
    try:
        return version("paddock-gateway")
    except PackageNotFoundError:
        return ""

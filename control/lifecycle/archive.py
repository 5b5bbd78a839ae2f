"""A backup as it is before it is sealed: a tar archive of regular files, its manifest first, which says all that follows.

    manifest.json               what it is of, and each file that follows with its size and SHA-256
    inventory/home.yml          the inventory, and its locks
    state/PATH                  the fleet's state
    databases/HOST.dump         a copy of a gateway's database: see services/gateway/paddock_gateway/store/dumps.py

It is read from the front, once: a file that the manifest does not say, another order, size or content is refused.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from inventory.bounds import BACKUP, MIB, size_words
from inventory.errors import PaddockError
from resources.owner import time_of

MANIFEST = "manifest.json"
BLOCK = tarfile.BLOCKSIZE
OF_USTAR = 8 << 30
"""Bytes of a file, of which that format has room for less than these (POSIX pax, ustar)."""
ENDS = bytes(2 * BLOCK)

PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._@+~:,=-]{1,200}")


def _path(value: str) -> str:
    parts = value.split("/")
    if parts[0] not in ("state", "inventory", "databases") or len(parts) < 2 or not all(map(PART.fullmatch, parts)):
        raise ValueError("is no path of a backup's")
    return value


def _moment(value: str) -> str:
    if value:
        time_of(value)  # raises ValueError
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Member(_Strict):
    name: Annotated[str, Field(max_length=1000), AfterValidator(_path)]
    size: Annotated[int, Field(ge=0, le=BACKUP.size)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Record(_Strict, extra="allow"):
    """What a gateway says of a copy of its database: that travels with it, whole."""

    name: Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[a-z-]{1,32}$")]
    database: Annotated[str, Field(pattern=r"^[a-z]{1,32}$")]
    revision: Annotated[str, Field(pattern=r"^[0-9]{4}$")]
    created: Annotated[str, Field(max_length=32)]
    size: Annotated[int, Field(ge=0, le=BACKUP.size)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rows: Annotated[dict[Annotated[str, Field(max_length=200)], Annotated[int, Field(ge=0)]], Field(max_length=1000)]

    @property
    def words(self) -> str:
        return f"{self.database}, {sum(self.rows.values()):,} rows in {len(self.rows)} tables, {words_of(self.size)}"


class Database(_Strict):
    host: Annotated[str, Field(max_length=100)]
    record: Record

    @property
    def member(self) -> str:
        return f"databases/{self.host}.dump"


class Manifest(_Strict):
    """`made` is `2026-11-30T15:51:34Z`; `id` and `changed` are of the state (control/state/lineage.py), empty where it has none yet."""

    format: Literal[1] = 1
    fleet: Annotated[str, Field(max_length=100)]
    made: Annotated[str, Field(max_length=32)]
    paddock: Annotated[str, Field(max_length=64)]
    id: Annotated[str, Field(max_length=16)] = ""
    changed: Annotated[str, Field(max_length=32), AfterValidator(_moment)] = ""
    members: Annotated[list[Member], Field(max_length=BACKUP.items)]
    databases: Annotated[list[Database], Field(max_length=10_000)] = []


@dataclass(frozen=True)
class Entry:
    """A file that goes into a backup."""

    name: str
    size: int
    sha256: str
    blocks: Callable[[], Iterator[bytes]]

    @property
    def member(self) -> Member:
        """Raises PaddockError where a backup can have no such file."""
        try:
            return Member(name=self.name, size=self.size, sha256=self.sha256)
        except ValidationError:
            raise PaddockError(f"{self.name}: is not a name that a backup takes: letters, digits, dots, hyphens, underscores") from None


def file_entry(name: str, path: Path) -> Entry:
    """Of a file that nobody changes meanwhile."""

    def blocks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(MIB):
                yield block

    digest, size = hashlib.sha256(), 0
    for block in blocks():
        digest.update(block)
        size += len(block)
    return Entry(name, size, digest.hexdigest(), blocks)


def packed(manifest: Manifest, entries: Sequence[Entry]) -> Iterator[bytes]:
    """The archive's bytes. Raises PaddockError where a file is not as it was when its digest was taken."""
    text = manifest.model_dump_json(indent=1).encode()
    yield from _member(Entry(MANIFEST, len(text), hashlib.sha256(text).hexdigest(), lambda: iter((text,))))
    for entry in entries:
        yield from _member(entry)
    yield ENDS


def _member(entry: Entry) -> Iterator[bytes]:
    info = tarfile.TarInfo(entry.name)
    info.size, info.mode = entry.size, 0o600
    try:
        yield info.tobuf(tarfile.USTAR_FORMAT if entry.size < OF_USTAR else tarfile.GNU_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise PaddockError(f"{entry.name}: cannot be packed: {error}") from None
    digest, size = hashlib.sha256(), 0
    for block in entry.blocks():
        digest.update(block)
        size += len(block)
        yield block
    if (size, digest.hexdigest()) != (entry.size, entry.sha256):
        raise PaddockError(f"{entry.name}: was changed while it was packed: run it again")
    yield bytes(-size % BLOCK)


Sink = Callable[[bytes], None]


class Reading:
    """Takes an archive's bytes as they come. `wants` gives what takes a file's content, or None for one that is only checked.

    Raises PaddockError, with `what` in front, where it is not as its manifest says; the sink may have had bytes of that file by then.
    """

    def __init__(self, what: str, wants: Callable[[Manifest, Member], Sink | None]) -> None:
        self.what, self.wants = what, wants
        self.manifest: Manifest | None = None
        self._bytes = bytearray()
        self._steps = self._read()
        self._needs = next(self._steps)
        self.ended = False

    def take(self, data: bytes) -> None:
        if self.ended:
            if any(data):
                raise self._refused("something follows its end")
            return
        self._bytes += data
        while self._bytes and not self.ended:
            if len(self._bytes) < min(self._needs, BLOCK):
                return
            piece = bytes(self._bytes[: self._needs])
            del self._bytes[: len(piece)]
            try:
                self._needs = self._steps.send(piece)
            except StopIteration:
                self.ended = True
                self.take(bytes(self._bytes))

    def close(self) -> Manifest:
        """Raises PaddockError where not all has come."""
        if not self.ended or not self.manifest:
            raise self._refused("it ends before its end")
        return self.manifest

    def _read(self) -> Any:
        """A generator: it gives how many bytes it takes next at most, and is sent them, as many as there are but BLOCK at least."""
        head = yield from self._header()
        if head is None or head[0] != MANIFEST or head[1] > 64 * MIB:
            raise self._refused("it does not begin with a manifest")
        text = bytearray()
        yield from self._content(head[1], text.extend)
        self.manifest = self._parsed(bytes(text))
        for member in self.manifest.members:
            if (yield from self._header()) != (member.name, member.size):
                raise self._refused(f"{member.name} is not where its manifest says")
            digest, sink = hashlib.sha256(), self.wants(self.manifest, member)

            def both(data: bytes, digest: Any = digest, sink: Sink | None = sink) -> None:
                digest.update(data)
                if sink:
                    sink(data)

            yield from self._content(member.size, both)
            if digest.hexdigest() != member.sha256:
                raise self._refused(f"{member.name} is not what its manifest says")
        if (yield from self._header()) is not None:
            raise self._refused("it has more files than its manifest says")

    def _header(self) -> Any:
        """Name and size; None at the end."""
        block = yield BLOCK
        if block == bytes(BLOCK):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise self._refused(f"it is no archive: {error}") from None
        if info.type != tarfile.REGTYPE:
            raise self._refused(f"{info.name} is no regular file")
        return info.name, info.size

    def _content(self, size: int, sink: Sink) -> Any:
        left = size + -size % BLOCK
        while left:
            piece = yield min(left, MIB)
            own = max(0, size - (size + -size % BLOCK - left))
            sink(piece[:own])
            left -= len(piece)

    def _parsed(self, text: bytes) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(text)
        except (ValidationError, ValueError, RecursionError) as error:
            places = error.errors(include_url=False, include_input=False) if isinstance(error, ValidationError) else []
            at = ".".join(map(str, places[0]["loc"])) if places else ""
            raise self._refused(f"its manifest makes no sense{f' (at {at})' if at else ''}") from None
        names = [each.name for each in manifest.members]
        if len(set(names)) < len(names):
            raise self._refused("its manifest says a file twice")
        sizes: Mapping[str, int] = {each.name: each.size for each in manifest.members}
        if sum(sizes.values()) > BACKUP.size:
            raise self._refused(f"it has more than {size_words(BACKUP.size)}")
        for each in manifest.databases:
            if sizes.get(each.member) != each.record.size:
                raise self._refused(f"its manifest says a database of {each.host!r} that is not there")
        return manifest

    def _refused(self, why: str) -> PaddockError:
        return PaddockError(f"{self.what}: cannot be used: {why}")


def words_of(size: int) -> str:
    """`3.1 MiB`"""
    return f"{size / MIB:,.1f} MiB"

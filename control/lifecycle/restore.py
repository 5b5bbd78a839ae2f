"""A backup, opened: read whole and checked before anything is touched, its state put in place, its databases put back on their hosts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from control.lifecycle.archive import Database, Manifest, Member, Reading, Sink
from control.lifecycle.databases import HostDatabase, Replaced, line_of
from control.state.fleet import FleetState, in_words, make_private, sync_directory, write_atomically
from control.state.lineage import lineage_of
from control.state.lock import operator_lock
from control.state.sealing import unseal_file
from control.state.secrets import Vault
from inventory.errors import PaddockError
from resources.owner import time_of


@dataclass(frozen=True)
class Opened:
    """A backup that is whole, with its `state` and `inventory` unpacked in a private directory. What is sealed in a state stays so."""

    manifest: Manifest
    directory: Path


def checked(vault: Vault, file: Path) -> Manifest:
    """Reads all of it, and keeps nothing. Raises PaddockError where it is not whole, or nobody here can open it."""
    return _read(vault, file, lambda manifest, member: None)


@contextmanager
def opened(vault: Vault, file: Path, beside: Path) -> Iterator[Opened]:
    """Unpacked beside a path, on the same disk, until this ends. Raises PaddockError."""
    make_private(beside.parent)
    with in_words(beside.parent, "cannot be written"):
        scratch = Path(tempfile.mkdtemp(dir=beside.parent, prefix=".restore-"))
    try:
        manifest = _read(vault, file, lambda manifest, member: _unpacking(scratch, member))
        yield Opened(manifest, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_fits(manifest: Manifest, state: FleetState, file: Path) -> None:
    """Raises PaddockError where it is another fleet's, or the state here must not be replaced by it."""
    if manifest.fleet != state.fleet:
        raise PaddockError(
            f"{file}: is of fleet {manifest.fleet}, and this inventory is of fleet {state.fleet}: name its inventory with -i"
        )
    here = lineage_of(state)
    if here is None:
        return
    away = f"move {state.path} away, if it is to be given up"
    if here.id != manifest.id:
        raise PaddockError(f"{file}: is of another state of fleet {state.fleet} than the one in {state.path}: {away}")
    if manifest.changed and here.changed > time_of(manifest.changed):
        raise PaddockError(
            f"{file}: is of {manifest.changed}, and the state in {state.path} was changed later, on {here.changed:%Y-%m-%d %H:%M:%S} UTC: "
            f"it knows who was let in and thrown out since. Nothing was changed; {away}"
        )


def put_state(this: Opened, state: FleetState, inventory: Path) -> Path | None:
    """The state takes its place; where there is one, that is kept aside, at the path that this gives. The inventory and its locks are
    written where they are missing. Raises PaddockError."""
    aside = None
    with in_words(state.path, "cannot be replaced"):
        if state.path.exists():
            aside = state.path.with_name(f"{state.path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            with operator_lock(state, "restore"):
                state.path.rename(aside)
                (this.directory / "state").rename(state.path)
        else:
            (this.directory / "state").rename(state.path)
        sync_directory(state.path.parent)
        for each in sorted((this.directory / "inventory").glob("*")):
            with suppress(FileExistsError):
                write_atomically(inventory.with_name(each.name), each.read_bytes(), 0o644, exclusive=True)
    return aside


def put_database(vault: Vault, file: Path, manifest: Manifest, database: Database, there: HostDatabase) -> Replaced:
    """On its host, which has it whole before its gateway is stopped. Raises PaddockError; then the database of before serves."""
    with there.receive() as feed:
        feed(line_of(database.record))
        _read(vault, file, lambda _, member: feed if member.name == database.member else None)
    try:
        return there.put_back(database.record)
    finally:
        there.remove(database.record)


def databases_in(manifest: Manifest, hosts: Collection[str]) -> list[Database]:
    return [each for each in manifest.databases if each.host in hosts]


def _read(vault: Vault, file: Path, wants: Callable[[Manifest, Member], Sink | None]) -> Manifest:
    reading = Reading(str(file), wants)
    unseal_file(vault, file, reading.take)
    return reading.close()


def _unpacking(directory: Path, member: Member) -> Sink | None:
    kind, *parts = member.name.split("/")
    if kind == "databases":
        return None
    place = Path(directory, kind, *parts)
    with in_words(place, "cannot be written"):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.touch(mode=0o600, exist_ok=False)

    def write(data: bytes) -> None:
        with in_words(place, "cannot be written"), place.open("ab") as file:
            file.write(data)

    return write

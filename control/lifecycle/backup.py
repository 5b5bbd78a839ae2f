"""One file of all that a fleet cannot do without: its state, its inventory, and its gateways' databases, sealed to the state's recipients.

    .paddock/home.backups/20261130T155134Z.tar.age

What others have or make again is left out: reports of runs, exported certificates, locks, and the archives of releases unless asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from control.lifecycle.archive import Database, Entry, Manifest, Record, file_entry, packed
from control.lifecycle.databases import HostDatabase
from control.state.fleet import FleetState, make_private, write_atomically
from control.state.lineage import lineage_of
from control.state.sealing import seal_file
from control.state.secrets import Vault
from inventory import model_lock, source_lock
from inventory.errors import PaddockError
from resources.owner import TIME

KEPT = 7
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z\.tar\.age")
LEFT_OUT = ("reports", "export")
LOCKS = ("lock", "admission.lock")


@dataclass(frozen=True)
class Made:
    file: Path
    size: int
    manifest: Manifest
    failed: Mapping[str, str]
    """Host → why its database is not in it."""


def directory_of(state: FleetState) -> Path:
    """Beside the state, so that no backup has the ones before in it."""
    return state.path.with_name(f"{state.path.name}.backups")


def backups(state: FleetState) -> list[Path]:
    """Those in the default directory, the oldest first."""
    return sorted(path for path in directory_of(state).glob("*.tar.age") if NAME.fullmatch(path.name))


def target_of(state: FleetState, to: Path | None) -> Path:
    """The file to write: `to`, or one with the time as its name in that directory or the default one."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.age"
    if to is None:
        directory = directory_of(state)
        make_private(directory.parent)
        make_private(directory)
        write_atomically(directory / ".gitignore", "*\n")
        return directory / name
    target = to / name if to.is_dir() else to
    if target.resolve().is_relative_to(state.path.resolve()):
        raise PaddockError(f"{target}: lies in the state that is backed up: name a place outside {state.path}")
    if target.exists():
        raise PaddockError(f"{target}: is there already: name another file, or a directory")
    if not target.parent.is_dir():
        raise PaddockError(f"{target.parent}: there is no such directory")
    return target


def back_up(
    state: FleetState,
    target: Path,
    databases: Mapping[str, HostDatabase],
    *,
    artifacts: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Made:
    """Writes the file, or none. Raises PaddockError. A database that cannot be copied is left out, and `failed` says why.

    Nobody may change the state meanwhile: hold its lock.
    """
    vault = Vault(state)
    vault.recipient_keys()  # which are in the state from now on
    entries = [*_inventory(state.inventory), *_state(state, artifacts=artifacts)]
    tell(f"state: {len(entries)} files, {sum(each.size for each in entries):,} bytes")
    copied: dict[str, Record] = {}
    failed: dict[str, str] = {}
    try:
        for host, database in databases.items():
            try:
                copied[host] = database.make()
            except PaddockError as error:
                failed[host] = str(error)
                continue
            tell(f"{host}: {copied[host].words}, restored into a scratch database and counted")
        found, lineage = [Database(host=host, record=record) for host, record in copied.items()], lineage_of(state)
        entries += [_copy(each, databases[each.host], tell) for each in found]
        manifest = Manifest(
            fleet=state.fleet,
            made=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            paddock=_version(),
            id=lineage.id if lineage else "",
            changed=lineage.changed.strftime(TIME) if lineage else "",
            members=[each.member for each in entries],
            databases=found,
        )
        size = seal_file(vault, packed(manifest, entries), target)
    finally:
        for host, record in copied.items():
            try:
                databases[host].remove(record)
            except PaddockError as error:
                tell(f"{error}: the copy {record.name} stays there")
    return Made(target, size, manifest, failed)


def prune(state: FleetState, keep: int) -> tuple[Path, ...]:
    """Deletes all but the newest backups in the default directory."""
    gone = tuple(backups(state)[:-keep])
    for each in gone:
        each.unlink(missing_ok=True)
    return gone


def _state(state: FleetState, *, artifacts: bool) -> Iterator[Entry]:
    for path in _files(state.path):
        name = path.relative_to(state.path)
        if name.parts[0] in LEFT_OUT or name.as_posix() in LOCKS or name.name.endswith(".tmp"):
            continue
        if name.parts[0] == "artifacts" and name.name.endswith((".tar.gz", ".tar")) and not artifacts:
            continue
        yield file_entry(f"state/{name.as_posix()}", path)


def _files(directory: Path) -> Iterator[Path]:
    """Regular files alone: there are no links in a state (FleetState.of)."""
    if not directory.is_dir():
        return
    for entry in sorted(os.scandir(directory), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _inventory(path: Path) -> Iterator[Entry]:
    for each in (path, model_lock.lock_path(path), source_lock.lock_path(path)):
        if each.is_file():
            yield file_entry(f"inventory/{each.name}", each)


def _copy(database: Database, there: HostDatabase, tell: Callable[[str], None]) -> Entry:
    def blocks() -> Iterator[bytes]:
        tell(f"{database.host}: fetching {database.record.size:,} bytes")
        return there.blocks(database.record)

    return Entry(database.member, database.record.size, database.record.sha256, blocks)


def _version() -> str:
    try:
        return version("paddock")
    except PackageNotFoundError:
        return ""

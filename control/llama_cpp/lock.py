"""Writes the lock of an inventory's sources: asks the package index which file each source distribution is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from control.fetching.download import Progress, fetched, silent
from control.fetching.package_index import find_sdist
from control.llama_cpp.releases import source_for
from control.state.fleet import write_atomically
from inventory.fleet import Fleet
from inventory.source_lock import SourceLock, SourcePin, lock_path, read_lock
from roles.source import Source


def write_lock(
    inventory: Path,
    fleet: Fleet,
    anew: Collection[str] = (),
    tell: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> SourceLock:
    """Pins each source distribution that says no digest itself: those `anew` again, of the others those that the lock does not have.

    What the inventory names no more leaves the lock. Raises PaddockError, and then what was pinned before that is kept.
    """
    before = read_lock(inventory)
    wanted = {name: source for source in sources(fleet) if (name := source.sdist) and _is_locked(source, before)}
    pins = {name: pin for name, pin in before.sources.items() if name in wanted}
    try:
        for name, source in wanted.items():
            if name in anew or name not in pins:
                pins[name] = pin_of(source, progress)
                tell(f"{name}: sha256 {pins[name].sha256}")
    finally:
        lock = SourceLock(sources={name: pins[name] for name in wanted if name in pins})
        if lock != before:
            write_atomically(lock_path(inventory), lock.text, mode=0o644)
    return lock


def sources(fleet: Fleet) -> list[Source]:
    """What the fleet builds, each source once."""
    return list(dict.fromkeys(source_for(fleet, host.name)[0] for host in fleet.hosts_with("llama_cpp")))


def pin_of(source: Source, progress: Progress = silent) -> SourcePin:
    """Which file a source distribution is at this moment: as the index promises, else as it comes. Raises PaddockError."""
    found = find_sdist(str(source.sdist), plain_http=source.plain_http)
    if found.promised:
        return SourcePin(sha256=found.promised, size=found.package.size or None)
    with tempfile.TemporaryDirectory() as scratch:
        file = fetched(found.package.url, None, Path(scratch), aside=Path(scratch), progress=progress, session=found.session)
        with file.open("rb") as content:
            return SourcePin(sha256=hashlib.file_digest(content, "sha256").hexdigest(), size=file.stat().st_size)


def _is_locked(source: Source, lock: SourceLock) -> bool:
    """Whether it is the lock that says its digest, or would have to: a fleet that was loaded has it already."""
    pin = lock.sources.get(str(source.sdist))
    return bool(source.unpinned) or (pin is not None and pin.sha256 == source.sha256)

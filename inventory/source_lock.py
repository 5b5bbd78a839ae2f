"""What the sources of llama.cpp are, where an inventory does not say it: `home.sources.lock` beside `home.yml`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from inventory.fleet import Fleet
from inventory.lock_file import read_lock_file
from roles.role import Settings, Sha256


class SourcePin(Settings):
    """The one file that a source distribution is."""

    sha256: Sha256
    size: Annotated[int, Field(gt=0)] | None = None


class SourceLock(Settings):
    """The whole of a lock file; `sources` by source distribution: `llama-cpp-python==0.3.35`."""

    version: Literal[1] = 1
    sources: dict[str, SourcePin] = {}

    @property
    def text(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=1) + "\n"


def lock_path(inventory: Path) -> Path:
    """`home.yml` → `home.sources.lock`"""
    return inventory.with_name(f"{inventory.stem}.sources.lock")


def read_lock(inventory: Path) -> SourceLock:
    """The lock beside an inventory; an empty one where there is none. Raises InventoryError where it cannot be read."""
    return read_lock_file(lock_path(inventory), SourceLock, "sources", pull())


def locked(fleet: Fleet, lock: SourceLock) -> Fleet:
    """The fleet with what the lock says of its sources, of those that say it themselves nothing."""
    if not lock.sources:
        return fleet
    digests = {name: pin.sha256 for name, pin in lock.sources.items()}
    hosts = {}
    for name, host in fleet.hosts.items():
        roles = {role: settings.pinned(digests) for role, settings in host.carried.items()}
        hosts[name] = host.model_copy(update={"roles": host.roles.model_copy(update=roles)})
    return fleet.model_copy(update={"hosts": hosts})


def unlocked(fleet: Fleet) -> Iterator[tuple[str, str, str]]:
    """Host, role and what to say of it, for each source that nothing says the digest of."""
    for host in fleet.hosts.values():
        for role, settings in host.carried.items():
            if (source := settings.llama_cpp_source()) and source.unpinned:
                yield host.name, role, unknown(source.unpinned)


def unknown(sdist: str) -> str:
    """What there is to say of a source distribution that nothing says the digest of."""
    return f"nothing says which file {sdist} is, neither a sha256 here nor the lock: run {pull()}"


def pull(sdist: str = "") -> str:
    """The command that writes the lock."""
    return f"`paddock artifacts pull --lock{f' {sdist}' if sdist else ''}`"

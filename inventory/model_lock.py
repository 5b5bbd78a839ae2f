"""What the models' files are, where an inventory does not say it: `home.models.lock` beside `home.yml`, for git as the inventory is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from inventory.fleet import Fleet
from inventory.lock_file import read_lock_file
from inventory.model_components import Component
from inventory.model_sources import AnyModelSource, ModelPart, ModelSource
from roles.role import Settings


class Pin(Settings):
    """What a source turned out to be."""

    source: dict[str, str]
    """As it was asked for. Where the inventory asks for something else by now, the rest says nothing."""

    revision: str = ""
    """The commit of a repository."""

    files: tuple[ModelPart, ...]

    shape: dict[str, Any] | None = None
    """What of the model decides how much memory it takes (inventory/model_shape.py), where that could be read."""


class ModelLock(Settings):
    """The whole of a lock file."""

    version: Literal[1] = 1
    models: dict[str, Pin] = {}
    """By the name of the component: `chat`, `chat+mmproj`."""

    @property
    def text(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=1) + "\n"


def lock_path(inventory: Path) -> Path:
    """`home.yml` → `home.models.lock`"""
    return inventory.with_name(f"{inventory.stem}.models.lock")


def read_lock(inventory: Path) -> ModelLock:
    """The lock beside an inventory; an empty one where there is none. Raises InventoryError where it cannot be read."""
    return read_lock_file(lock_path(inventory), ModelLock, "models", pull())


def locked(fleet: Fleet, lock: ModelLock) -> Fleet:
    """The fleet with what the lock says of its models, of those that say it themselves nothing."""
    models = {
        name: entry.with_sources(name, lambda each: _locked(each.source, lock.models.get(each.name)))
        for name, entry in fleet.models.items()
    }
    return fleet.model_copy(update={"models": models})


def unpinned(source: ModelSource, pin: Pin) -> ModelSource:
    """The source as it was before the lock had its say."""
    return source.model_copy(update={"files": (), "revision": pin.source.get("revision")})


def _locked(source: AnyModelSource, pin: Pin | None) -> AnyModelSource:
    if not isinstance(source, ModelSource) or source.digests or not pin or pin.source != source.asked:
        return source
    if source.named and len(source.named) != len(pin.files):
        return source  # somebody has edited it, or two branches were merged
    return source.model_copy(update={"files": pin.files, "revision": pin.revision or source.revision})


def unlocked(fleet: Fleet, lock: ModelLock) -> Iterator[tuple[str, Component, str]]:
    """The models with a component whose files nothing says a digest of, each with why that is and what to do. The fleet is one that was
    `locked`."""
    for name, entry in fleet.models.items():
        for each in entry.components(name):
            if isinstance(each.source, ModelSource) and not each.source.digests:
                yield name, each, unknown(name, stale=each.name in lock.models)


def unknown(model: str, *, stale: bool = False) -> str:
    """What there is to say of `models.<model>.source` where it has no digests."""
    why = "the lock is of another source than this" if stale else "nothing says which file it is, neither a sha256 here nor the lock"
    return f"{why}: run {pull(model)}"


def pull(model: str = "") -> str:
    """The command that writes the lock."""
    return f"`paddock models pull --lock{f' {model}' if model else ''}`"

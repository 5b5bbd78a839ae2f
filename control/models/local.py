"""The models that come from this machine: a tiny one that Paddock writes itself, and files that lie beside an inventory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from control.models.tiny_model import VERSION, write
from control.state.fleet import in_words, write_atomically
from inventory.bounds import from_json
from inventory.errors import PaddockError
from inventory.knowledge import ModelDigest
from inventory.model_components import Component
from inventory.model_sources import ModelSource

CACHE = Path("~/.cache/paddock/models")


def tiny_model() -> Path:
    """The file of the tiny model, written at first use."""
    target = CACHE.expanduser() / f"{VERSION}.gguf"
    with in_words(target, "cannot be written"):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                write(Path(scratch) / target.name).replace(target)
    return target


def tiny_digest() -> ModelDigest:
    """What the tiny model's file is."""
    return digest_of(tiny_model())


def local_model(component: Component, inventory_dir: Path, part: int = 0) -> Path:
    """A file of a component with `source: {local: …}`, relative to the inventory, checked against what that or its lock says.

    Raises PaddockError where it is missing, or another file than was meant.
    """
    source = component.source
    assert isinstance(source, ModelSource) and source.local, f"{component.name} does not come from this machine"
    path, meant = local_file(component, source.named[part], inventory_dir), source.digests[part]
    where, says = (f"{component.where}.source", "the inventory says") if source.sha256 else (component.where, "the lock says")
    size = path.stat().st_size
    if meant.size and meant.size != size:
        raise PaddockError(f"{where}.size: {path} has {size} bytes, {says} {meant.size}")
    if (found := digest_of(path).sha256) != meant.sha256:
        raise PaddockError(f"{where}.sha256: {path} has {found}, {says} {meant.sha256}")
    return path


def local_file(component: Component, where: str, inventory_dir: Path) -> Path:
    """Raises PaddockError where there is none."""
    path = (inventory_dir / Path(where).expanduser()).resolve()
    with in_words(path, "cannot be read"):
        is_there = path.is_file()
    if not is_there:
        raise PaddockError(f"{component.where}.source.local: there is no file {path}")
    return path


def digest_of(path: Path) -> ModelDigest:
    """What a file is. It is read once, and again when its size, modification time or inode is another."""
    with in_words(path, "cannot be read"):
        stat = path.stat()
    stamp = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino]
    note = CACHE.expanduser() / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    try:
        noted, sha256 = from_json(note.read_text())
    except (OSError, ValueError):
        noted, sha256 = None, ""
    if noted != stamp:
        with in_words(path, "cannot be read"), path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with in_words(note, "cannot be written"):
            note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps([stamp, sha256]))
    return ModelDigest(sha256, stat.st_size)

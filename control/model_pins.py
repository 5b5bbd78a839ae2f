"""Writes the lock of an inventory's models: asks each source what its files are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from control.download import digest_at
from control.gguf import is_gguf, local_shape, remote_shape
from control.hugging_face import pinned
from control.models import digest_of, local_file
from control.payload import Download, hf_token
from control.state import write_atomically
from control.work import resolve_url
from inventory.errors import PaddockError
from inventory.model_lock import ModelLock, Pin, lock_path, read_lock, unpinned
from inventory.model_shape import ModelShape, as_data
from inventory.schema import Fleet, ModelPart, ModelSource


def write_lock(
    inventory: Path, fleet: Fleet, secrets: Mapping[str, str], anew: Collection[str] = (), tell: Callable[[str], None] = lambda line: None
) -> ModelLock:
    """Pins each model that says no digests itself: those `anew` again, of the others those that the lock does not have so.

    What the inventory names no more leaves the lock. Raises PaddockError, and then what was pinned before that is kept.
    """
    before = read_lock(inventory)
    sources = {name: entry.source for name, entry in fleet.models.items() if isinstance(entry.source, ModelSource)}
    pins = {name: pin for name, pin in before.models.items() if name in sources}
    try:
        for name, source in sources.items():
            as_written = source if not (pin := pins.get(name)) or pin.files != source.files else unpinned(source, pin)
            if as_written.digests:
                pins.pop(name, None)  # the inventory says it itself by now
            elif name in anew or name not in pins or pins[name].source != as_written.asked:
                pins[name] = pin_of(name, as_written, inventory.parent, secrets)
                tell(f"{name}: {_words(pins[name])}")
    finally:
        lock = ModelLock(models={name: pins[name] for name in sources if name in pins})
        if lock != before:
            write_atomically(lock_path(inventory), lock.text, mode=0o644)
    return lock


def pin_of(name: str, source: ModelSource, beside: Path, secrets: Mapping[str, str]) -> Pin:
    """What a source is at this moment. Of a URL all is read, once, and nothing is kept. Raises PaddockError."""
    if source.hf:
        token = hf_token(secrets)
        revision, files = pinned(name, source, token)
        url = resolve_url(source.hf, revision, files[0].name)
        return Pin(source=source.asked, revision=revision, files=files, shape=_shape(lambda: remote_shape(url, token=token)))
    files = tuple(_read(name, source, each, beside) for each in source.named)
    shape = _shape(lambda: local_shape(local_file(name, source.named[0], beside)) if source.local else remote_shape(source.named[0]))
    return Pin(source=source.asked, files=files, shape=shape)


def _shape(read: Callable[[], ModelShape]) -> dict[str, Any] | None:
    """What says how much memory it takes; nothing where its header cannot be read, which is no reason not to pin it."""
    try:
        return as_data(read())
    except PaddockError:
        return None


def _read(name: str, source: ModelSource, where: str, beside: Path) -> ModelPart:
    if source.local:
        found = digest_of(local_file(name, where, beside))
        if not found.size:
            raise PaddockError(f"models.{name}.source.local: {where} is empty: put the model there, or name another file")
        if not is_gguf(local_file(name, where, beside)):
            raise PaddockError(f"models.{name}.source.local: {where} is no GGUF: name the model's file")
        return ModelPart(name=Path(where).name, sha256=found.sha256, size=found.size)
    sha256, size = digest_at(where, Download())
    return ModelPart(name=where.partition("?")[0].rpartition("/")[2] or "model.gguf", sha256=sha256, size=size)


def _words(pin: Pin) -> str:
    size = sum(each.size or 0 for each in pin.files) / (1 << 30)
    many = f"{len(pin.files)} files, " if len(pin.files) > 1 else ""
    return f"{many}{size:.1f} GiB, {pin.files[0].name}" + (f" at {pin.revision[:12]}" if pin.revision else "")

"""Writes the lock of an inventory's models: asks each source what its files are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from control.models.origins import Means, origin_of
from control.state.fleet import write_atomically
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.model_components import Component
from inventory.model_lock import ModelLock, Pin, lock_path, read_lock, unpinned
from inventory.model_shape import ModelShape, as_data
from inventory.model_sources import ModelSource


def write_lock(
    inventory: Path, fleet: Fleet, secrets: Mapping[str, str], anew: Collection[str] = (), tell: Callable[[str], None] = lambda line: None
) -> ModelLock:
    """Pins each component of a model that says no digests itself: of the models `anew` again, of the others what the lock does not have so.

    What the inventory names no more leaves the lock. Raises PaddockError, and then what was pinned before that is kept.
    """
    before = read_lock(inventory)
    components = {
        each.name: (model, each)
        for model, entry in fleet.models.items()
        for each in entry.components(model)
        if isinstance(each.source, ModelSource)
    }
    pins = {name: pin for name, pin in before.models.items() if name in components}
    try:
        for name, (model, component) in components.items():
            source = component.source
            assert isinstance(source, ModelSource)
            as_written = source if not (pin := pins.get(name)) or pin.files != source.files else unpinned(source, pin)
            if as_written.digests:
                pins.pop(name, None)  # the inventory says it itself by now
            elif model in anew or name not in pins or pins[name].source != as_written.asked:
                pins[name] = pin_of(replace(component, source=as_written), Means(inventory.parent, secrets))
                tell(f"{name}: {_words(pins[name])}")
    finally:
        lock = ModelLock(models={name: pins[name] for name in components if name in pins})
        if lock != before:
            write_atomically(lock_path(inventory), lock.text, mode=0o644)
    return lock


def pin_of(component: Component, means: Means) -> Pin:
    """What a source is at this moment. Raises PaddockError."""
    source, origin = component.source, origin_of(component)
    assert isinstance(source, ModelSource)
    revision, files = origin.pinned(component, means)
    pinned = source.model_copy(update={"files": files, "revision": revision or source.revision})
    shape = None if component.is_text else _shape(lambda: origin.shape(replace(component, source=pinned), means))
    return Pin(source=source.asked, revision=revision, files=files, shape=shape)


def _shape(read: Callable[[], ModelShape]) -> dict[str, Any] | None:
    """What says how much memory it takes; nothing where its header cannot be read, which is no reason not to pin it."""
    try:
        return as_data(read())
    except PaddockError:
        return None


def _words(pin: Pin) -> str:
    size = sum(each.size or 0 for each in pin.files) / (1 << 30)
    many = f"{len(pin.files)} files, " if len(pin.files) > 1 else ""
    return f"{many}{size:.1f} GiB, {pin.files[0].name}" + (f" at {pin.revision[:12]}" if pin.revision else "")

"""What of each model decides how much memory it takes: as the lock has it, or as its header was read once and noted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from control.models.local import CACHE
from control.state.fleet import in_words, write_atomically
from inventory.bounds import from_json
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.model_components import Component
from inventory.model_lock import read_lock, unpinned
from inventory.model_shape import ModelShape, as_data, from_data
from inventory.model_sources import AnyModelSource, ModelSource


def known(fleet: Fleet, inventory: Path) -> dict[str, ModelShape]:
    """By the name of the component, of those whose header somebody has looked at. Reads what lies on this machine, and no model.

    The tiny model is not among them: in a lab it stands in for others, and is served as they are, whatever it was made for.
    """
    lock = read_lock(inventory)
    found = {}
    for component in (each for name, entry in fleet.models.items() for each in entry.components(name)):
        source = component.source
        if source == "tiny" or component.is_text:
            continue
        pin = lock.models.get(component.name)
        if isinstance(source, ModelSource) and pin and pin.shape and pin.source == unpinned(source, pin).asked:
            found[component.name] = from_data(pin.shape, component.where)
        elif (note := _note(source)) and note.exists():
            # A note that is damaged, or says nothing of types of tensors, is none: `paddock models fit` writes it anew.
            with suppress(ValueError, TypeError, PaddockError):
                shape = from_data(from_json(note.read_text()), str(note))
                if shape.tensor_types:
                    found[component.name] = shape
    return found


def learned(component: Component, inventory: Path, secrets: Mapping[str, str]) -> ModelShape:
    """Reads a header where it comes from, and notes what it says. Raises PaddockError where that cannot be."""
    from control.models.origins import Means, origin_of

    shape = origin_of(component).shape(component, Means(inventory.parent, secrets))
    if note := _note(component.source):
        with in_words(note, "cannot be written"):
            note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(as_data(shape)))
    return shape


def _note(source: AnyModelSource) -> Path | None:
    """Named for the digest of the first file: another file has another note."""
    from control.models.local import tiny_digest

    if not isinstance(source, ModelSource):
        digest = tiny_digest().sha256
    elif source.digests and set(source.digests[0].sha256) != {"0"}:  # an example's digest is no file's
        digest = source.digests[0].sha256
    else:
        return None
    return CACHE.expanduser() / "shapes" / f"{digest}.json"

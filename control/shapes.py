"""What of each model decides how much memory it takes: as the lock has it, or as its header was read once and noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from control.models import CACHE
from control.state import write_atomically
from inventory.errors import PaddockError
from inventory.model_lock import read_lock, unknown, unpinned
from inventory.model_shape import ModelShape, as_data, from_data
from inventory.schema import Fleet, ModelEntry, ModelSource


def known(fleet: Fleet, inventory: Path) -> dict[str, ModelShape]:
    """By model, of those whose header somebody has looked at. Reads what lies on this machine, and no model.

    The tiny model is not among them: in a lab it stands in for others, and is served as they are, whatever it was made for.
    """
    lock = read_lock(inventory)
    found = {}
    for name, entry in fleet.models.items():
        if entry.source == "tiny":
            continue
        pin = lock.models.get(name)
        if isinstance(entry.source, ModelSource) and pin and pin.shape and pin.source == unpinned(entry.source, pin).asked:
            found[name] = from_data(pin.shape, f"models.{name}")
        elif (note := _note(entry)) and note.exists():
            with suppress(ValueError, TypeError, PaddockError):  # a note that is damaged is none: `paddock models fit` writes it anew
                found[name] = from_data(json.loads(note.read_text()), str(note))
    return found


def learned(name: str, entry: ModelEntry, inventory: Path, token: str = "") -> ModelShape:
    """Reads a model's header where it comes from, and notes what it says. Raises PaddockError where that cannot be."""
    from control.gguf import local_shape, remote_shape
    from control.models import local_file, tiny_model
    from control.work import resolve_url

    source = entry.source
    read: Callable[[], ModelShape]
    if not isinstance(source, ModelSource):
        read = lambda: local_shape(tiny_model())  # noqa: E731
    elif source.local:
        read = lambda: local_shape(local_file(name, source.named[0], inventory.parent))  # noqa: E731
    elif source.path:
        raise PaddockError(f"models.{name}: it lies on its host alone ({source.path}), and nobody here can look into it")
    elif source.hf and not source.named and not source.digests:
        raise PaddockError(f"models.{name}.source: {unknown(name)}")
    else:
        first = source.named[0] if source.named else source.digests[0].name
        url = source.url or resolve_url(str(source.hf), source.revision or "main", first)
        read = lambda: remote_shape(url, token=token if source.hf else "")  # noqa: E731
    shape = read()
    if note := _note(entry):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(as_data(shape)))
    return shape


def _note(entry: ModelEntry) -> Path | None:
    """Named for the digest of the first file: another file has another note."""
    from control.models import tiny_digest

    source = entry.source
    if not isinstance(source, ModelSource):
        digest = tiny_digest().sha256
    elif source.digests and set(source.digests[0].sha256) != {"0"}:  # an example's digest is no file's
        digest = source.digests[0].sha256
    else:
        return None
    return CACHE.expanduser() / "shapes" / f"{digest}.json"

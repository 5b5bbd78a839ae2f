"""A model's options written into the inventory, where its servers take them from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from control.editing.candidate import Candidate, candidate, read_text
from control.editing.places import also_changed, places
from control.editing.text import Edit, edited, value_at
from inventory.errors import UsageError
from inventory.fleet import Fleet
from inventory.options import Options
from roles.server import Server


@dataclass(frozen=True)
class OptionsChange:
    """The inventory with a model's options changed, and other servers that would take them too, as `rig/chat-2`."""

    candidate: Candidate
    others: tuple[str, ...]


def with_options(
    path: Path, fleet: Fleet, known: Mapping[str, Options], model: str, servers: tuple[Server, ...], changes: Mapping[str, str | None]
) -> OptionsChange:
    """The inventory once these servers take these options for the model: key → value, None to take one away. `known`: of each host.

    Raises UsageError for one that is to go and is not written there, PaddockError where the text cannot be changed alone.
    """
    text = read_text(path)
    edits = [Edit(place, value) for key, value in changes.items() for place in places(text, known, model, key, servers)]
    _refuse_inherited(text, edits)
    kept = candidate(path, edited(text, edits))
    others = also_changed(text, [each.path for each in edits], fleet, known, model, servers) if kept.differs else ()
    return OptionsChange(kept, tuple(others))


def _refuse_inherited(text: str, edits: Iterable[Edit]) -> None:
    for edit in edits:
        if edit.value is None and value_at(text, edit.path) is None:
            raise UsageError(
                f"{'.'.join(edit.path)}: is not written there, so it cannot be taken away: `paddock models preset` shows where"
            )

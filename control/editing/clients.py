"""Clients written into the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from control.editing.candidate import Candidate, candidate, read_text
from control.editing.text import Edit, edited


def with_clients(path: Path, entries: Mapping[str, Mapping[str, str]]) -> Candidate | None:
    """The inventory once it says this of these clients: name → key → value. None where it does already."""
    edits: list[Edit] = [Edit(("clients", name, key), value) for name, entry in entries.items() for key, value in entry.items()]
    text = read_text(path)
    after = edited(text, edits)
    return None if after == text else candidate(path, after)

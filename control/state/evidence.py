"""Why a host has not kept a release, in `evidence/HOST-ID/` of the state, ID being the run's: what the host has collected of a switch that
was taken back, what was measured, what a check has answered. It is text that hosts have written, and is no instruction.

The newest KEPT directories are kept, and of those the newest ROOM bytes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from control.state.fleet import FleetState, in_words, read, write_atomically
from inventory.bounds import EVIDENCE, MIB, TooMuch, size_words

KEPT = 50
ROOM = 64 * MIB

FILE = re.compile(r"[A-Za-z0-9@_:\\-][A-Za-z0-9@_.:\\-]{0,127}")
"""The name of a file of it."""

DIRECTORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,320}")

TOLD = "control-machine"
"""The file with what the control machine has seen: the check that failed, in its own words."""


def keep(state: FleetState, host: str, id: str, files: Mapping[str, bytes]) -> Path:
    """Where it lies now, beside what was kept under that id before. Drops what is beyond the bounds. Raises PaddockError where it cannot
    be written."""
    directory = state.directory("evidence", f"{host}-{id}")
    for name, content in files.items():
        write_atomically(directory / name, content)
    _drop_oldest(directory)
    return directory


def place(state: FleetState, host: str, id: str) -> Path | None:
    """Where it would lie; None where these are no names of a host and a run."""
    name = f"{host}-{id}"
    return state.path / "evidence" / name if DIRECTORY.fullmatch(name) else None


def kept(state: FleetState, host: str, id: str) -> dict[str, bytes]:
    """File → its content; none where nothing is kept, or no more. Raises PaddockError where it cannot be read."""
    directory = place(state, host, id)
    if directory is None or not directory.is_dir():
        return {}
    with in_words(directory, "cannot be read"):
        names = sorted(path.name for path in directory.iterdir() if FILE.fullmatch(path.name) and path.is_file())
    found: dict[str, bytes] = {}
    for name in names[: EVIDENCE.items]:
        found[name] = read(directory / name) or b""
        if sum(map(len, found.values())) > EVIDENCE.size:
            raise TooMuch(f"{directory}: has more than {size_words(EVIDENCE.size)}: this is not what Paddock has written")
    return found


def _drop_oldest(newest: Path) -> None:
    """All that is beyond the bounds, but not the newest."""
    with in_words(newest.parent, "cannot be read"):
        others = sorted((path for path in newest.parent.iterdir() if path.is_dir() and path != newest), key=_changed, reverse=True)
        room = ROOM - _size(newest)
        for at, path in enumerate(others, 2):
            room -= _size(path)
            if at > KEPT or room < 0:
                shutil.rmtree(path)


def _changed(directory: Path) -> float:
    return directory.stat().st_mtime


def _size(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # another run may have dropped it
            size += path.lstat().st_size
    return size

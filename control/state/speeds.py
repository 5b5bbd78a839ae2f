"""How fast the hosts' servers were, as the state keeps it: `speeds/HOST.txt`, the lines that the host keeps too (resources/speed.py)."""

from __future__ import annotations

from collections.abc import Sequence

from control.state.fleet import FleetState, read, write_atomically
from resources import Reached, lines_of, reached_of
from resources.speed import with_newer


def kept(state: FleetState, host: str) -> tuple[Reached, ...]:
    """What is no such line is left out: it is measured again."""
    return reached_of(lines_of((read(state.path / "speeds" / f"{host}.txt") or b"").decode(errors="replace")))


def keep(state: FleetState, host: str, newer: Sequence[Reached]) -> None:
    if newer:
        lines = [each.text for each in with_newer(kept(state, host), newer)]
        write_atomically(state.directory("speeds") / f"{host}.txt", "\n".join([*lines, ""]))

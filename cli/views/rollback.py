"""What a host has had, as its own history says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.views.colour import coloured
from cli.views.table import table

if TYPE_CHECKING:
    from control.lifecycle.rollback import Kept


def entries_of(host: str, kept: Kept) -> Iterator[str]:
    """A line an entry, what the host had last first."""
    history = kept.history
    if not history.newest:
        yield coloured(f"{host}: its history is empty", "~")
        return
    yield coloured(f"{host}:", "+")
    if history.newest.state == "begun":
        yield f"  the run of {history.newest.at:%Y-%m-%d %H:%M UTC} ({history.newest.verb}) did not come to its end"
    rows = []
    for line in history.last:
        mark = "it has this" if line == history.newest else "before" if line == history.before else ""
        if not kept.is_possible(line):
            mark = "not possible: " + ("its release is gone" if line.release in kept.gone else "its plan is gone")
        rows.append((f"  {line.number}", f"{line.at:%Y-%m-%d %H:%M UTC}", line.verb, line.release, line.who, mark))
    if rows:
        yield table(rows)

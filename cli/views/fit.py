"""What fits, as a picture for a terminal of any width, and as data."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control.deployment.fit import Memory, MemoryPool, Row

MIB = 1 << 20

HEAD = ("", "model", "context", "weights", "KV", "compute", "other", "total")
EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR_LEAST, BAR_MOST = 8, 40
NAMES_MOST = 3


def on_terminal(places: Sequence[MemoryPool]) -> Iterator[str]:
    """The lines for whatever standard output is: its width, and whether it can show blocks."""
    blocks = (sys.stdout.encoding or "").lower().startswith("utf")
    return lines(places, shutil.get_terminal_size((140, 24)).columns, blocks=blocks)


def lines(places: Sequence[MemoryPool], width: int, *, blocks: bool = True) -> Iterator[str]:
    """A line a model, in MiB, each with a bar that begins where the one before it ends, and a line a place with what is left.

    Without `blocks` the bars are of `#`: for terminals that know no others.
    """
    shown = [place for place in places if place.rows]
    cells = [[_cells(row) for row in place.rows] for place in shown]
    widths = [max(len(row[column]) for row in [HEAD, *(row for each in cells for row in each)]) for column in range(len(HEAD))]
    room = width - len(_line(HEAD, widths)) - 2
    bar = min(room, BAR_MOST) if room >= BAR_LEAST else 0
    for place, rows in zip(shown, cells, strict=True):
        yield _titled(place)
        yield _line(HEAD, widths)
        start = 0
        for row, each in zip(place.rows, rows, strict=True):
            yield f"{_line(each, widths)}  {_bar(start, row.memory.total, place, bar, blocks=blocks)}".rstrip()
            start += row.memory.total
        yield _summary(place)


def together(lines: Iterable[str]) -> list[str]:
    """Lines that differ in their host alone as one: `hosts.ai, pi1, pi2 and 12 more: memory unknown: …`"""
    hosts: dict[str, list[str]] = {}
    for line in lines:
        host, colon, words = line.removeprefix("hosts.").partition(": ")
        is_of_host = line.startswith("hosts.") and colon and "." not in host
        hosts.setdefault(words if is_of_host else line, []).extend([host] if is_of_host else [])
    return [f"hosts.{_some(names)}: {words}" if names else words for words, names in hosts.items()]


def _some(names: Sequence[str]) -> str:
    names = tuple(dict.fromkeys(names))
    return ", ".join(names[:NAMES_MOST]) + (f" and {len(names) - NAMES_MOST} more" if len(names) > NAMES_MOST else "")


def as_data(places: Sequence[MemoryPool]) -> list[dict[str, Any]]:
    """For `--json`: sizes in MiB; what nobody knows is null, and then so is whether it fits."""
    return [
        {
            "place": place.name,
            "room_mib": place.room_mib or None,
            "used_mib": math.ceil(place.used / MIB),
            "left_mib": place.left_mib if place.room_mib else None,
            "fits": place.fits if place.room_mib else None,
            "models": [
                {"server": row.server, "model": row.model, "context": row.needs.context, "exact": row.needs.exact, **_sizes(row.memory)}
                for row in place.rows
            ],
        }
        for place in places
        if place.rows
    ]


def _sizes(memory: Memory) -> dict[str, int]:
    parts = {"weights": memory.weights, "kv": memory.kv, "compute": memory.compute, "other": memory.other, "total": memory.total}
    return {f"{name}_mib": math.ceil(size / MIB) for name, size in parts.items()}


def _cells(row: Row) -> tuple[str, ...]:
    sizes = [str(size) for size in _sizes(row.memory).values()]
    sizes[1] += "" if row.needs.exact else "?"
    return (row.server, row.model, str(row.needs.context), *sizes)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    return "  " + "  ".join(
        cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _titled(place: MemoryPool) -> str:
    return f"{place.name}: {f'{place.room_mib} MiB' if place.room_mib else 'memory unknown: not checked'}"


def _summary(place: MemoryPool) -> str:
    together = sum(row.memory.total for row in place.rows)
    at_a_time = " by the largest at a time" if place.used < together else ""
    used = f"  {math.ceil(place.used / MIB)} MiB taken{at_a_time}"
    if not place.room_mib:
        return f"{used} of nobody knows how many"
    return f"{used}, {place.left_mib} left" if place.fits else f"{used}, {-place.left_mib} too many"


def _bar(start: int, size: int, place: MemoryPool, width: int, *, blocks: bool) -> str:
    """The part of a place from `start` on, with the whole place as wide as `width`; what is beyond it is not drawn."""
    whole = max(place.room_mib * MIB, place.used, 1)
    first, last = (min(edge * width * 8 // whole, width * 8) for edge in (start, start + size))
    if not width or first == last:
        return ""
    if not blocks:
        return " " * (first // 8) + "#" * max(last // 8 - first // 8, 1)
    # A block can be cut at its right only: the first begins where its cell does.
    return " " * (first // 8) + "█" * (last // 8 - first // 8) + EIGHTHS[last % 8].strip()

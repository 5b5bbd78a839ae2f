"""What a contender's processes, its children too, take of the machine, and the core that they have for themselves."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


def alone(pid: int) -> None:
    """On the core that nothing else of this has."""
    for each in _family(pid):
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {CORES[0]})


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *(each for child in children.read_text().split() for each in _family(int(child)))]
    except OSError:
        return []


def cpu_s(pid: int) -> float:
    """Seconds of all processes of a contender."""
    return (
        sum(sum(map(int, Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[11:13])) for each in _family(pid)) / TICKS
        if pid
        else 0.0
    )


def memory_mib(pid: int) -> float:
    rollups = (Path(f"/proc/{each}/smaps_rollup").read_text() for each in (_family(pid) if pid else ()))
    return sum(int(found[1]) for text in rollups if (found := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))) / 1024

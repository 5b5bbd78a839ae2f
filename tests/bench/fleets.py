"""What `check`, `render` and `plan --offline` take for fleets of 200, 2,000 and 10,000 hosts, in processor time and memory.

    python -m tests.bench.fleets [--hosts 200,2000] [SHAPE …]

It needs no lab: the inventories are made (tests/bench/inventories.py), and the hardware of all hosts is known. It prints a table and
asserts nothing but that each command succeeds. The seconds are the process's own: a machine that does something else as well hardly
changes them.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from cli.views.table import table
from control.state.fleet import FleetState
from inventory.hardware import Hardware
from inventory.load import load
from tests.bench.inventories import NAME, SHAPES, inventory

HOSTS = (200, 2_000, 10_000)
FEWEST = 3
"""The hosts of a fleet that takes as long as a command does anyway; the exponent is of what the others take beyond that."""

VERBS = {"check": 3.0, "render": 30.0, "plan --offline": 0.0}
"""Each with the seconds that it is to take for AIMED_AT hosts at most; 0 where nothing is aimed at."""

AIMED_AT = 2_000

HARDWARE = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=15900, distribution="debian 13", libc="2.41")


class Cost(NamedTuple):
    """What a process took: seconds of a processor, and the most memory that it had at a time."""

    seconds: float
    mib: int


def main(shapes: Sequence[str], sizes: Sequence[int]) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each command would compile what it imports
    os.environ.pop("PADDOCK_STATE", None)  # all the fleets have one name
    with tempfile.TemporaryDirectory() as scratch:
        print(table(list(rows(shapes, sizes, Path(scratch)))))


def prepared(directory: Path, shape: str, hosts: int) -> Path:
    """The inventory, in a new directory, with the hardware of its hosts beside it."""
    directory.mkdir()
    path = directory / "inventory.yml"
    path.write_text(inventory(shape, hosts))
    known, text = FleetState.of(path, NAME).directory("hardware"), TypeAdapter(Hardware).dump_json(HARDWARE)
    for host in load(path).hosts:
        (known / f"{host}.json").write_bytes(text)
    return path


def rows(shapes: Sequence[str], sizes: Sequence[int], scratch: Path) -> Iterator[tuple[str, ...]]:
    yield "hosts", "", *(text for size in sizes for text in (f"{size:,}", "")), *(f"exponent to {size:,}" for size in sizes[1:]), "aim"
    for shape in shapes:
        paths = {size: prepared(scratch / f"{shape}-{size}", shape, size) for size in (FEWEST, *sizes)}
        for verb, aim in VERBS.items():
            costs = {size: cost(path, verb) for size, path in paths.items()}
            print(f"  {shape}  {verb}", file=sys.stderr, flush=True)
            taken = (text for size in sizes for text in (f"{costs[size].seconds:.2f} s", f"{costs[size].mib} MiB"))
            beyond = [(size, costs[size].seconds - costs[FEWEST].seconds) for size in sizes]
            grown = (exponent(one, other) for one, other in pairwise(beyond))
            yield shape, verb, *taken, *grown, f"{aim:g} s for {AIMED_AT:,}" if aim else ""


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)
"""
"""In a process of its own, which is small: what Linux says of a process's memory is that of the process that began it, at least."""


def cost(path: Path, verb: str) -> Cost:
    command = [sys.executable, "-m", "cli", "-i", str(path), *verb.split()]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds, mib = done.stdout.split()
    return Cost(float(seconds), int(mib))


def exponent(one: tuple[int, float], other: tuple[int, float]) -> str:
    """1.00 where ten times as many hosts take ten times as long, 2.00 where they take a hundred times as long."""
    (few, short), (many, long) = one, other
    return f"{math.log(long / short) / math.log(many / few):.2f}" if min(short, long) > 0 else "–"


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--hosts", type=lambda text: [int(each) for each in text.split(",")], default=HOSTS)
    command.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}; by default all")
    options = command.parse_args()
    main(options.shapes or list(SHAPES), options.hosts)

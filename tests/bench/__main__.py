"""How long a run takes where nothing is to change: Paddock on four lab hosts, and others that look at the same resources of each.

    python -m tests.bench [ROUNDS]

It makes the hosts and deploys to them, then the contenders take turns, so that whatever else the machine does hits all alike. It prints
medians and ratios, and asserts nothing but that none of them found anything to change. The hosts are gone afterwards, unless
PADDOCK_KEEP_LAB is set.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cli.views.table import table
from control.deployment.knowledge import knowledge_for
from control.state.fleet import FleetState
from inventory.load import load
from resources import File, Port, Resource
from roles.host_plan import host_plan
from tests.bench.contenders import HOSTS, NAME, Contender, addresses_of, bare, contenders, described, left_out
from tests.lab_fleet import lab_fleet

ROUNDS, RARE_ROUNDS = 5, 3
TWICE = 2.0
"""Paddock is to take this many times as long as bare SSH and the import together, at most."""

Times = Mapping[str, Sequence[float]]


def main(rounds: int) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each contender would compile what it imports, in every round
    with tempfile.TemporaryDirectory() as scratch, lab_fleet(NAME, Path(scratch), bare()) as lab:
        hosts = {name: lab.host(name) for name in HOSTS}
        lab.write(described(addresses_of(hosts)))
        print("deploying", flush=True)
        first = lab.paddock("up", "--yes", "--no-verify", "--limit", ",".join(HOSTS))
        assert first.returncode == 0, first.stdout + first.stderr

        fleet = load(lab.inventory)
        knowledge = knowledge_for(fleet, FleetState.of(lab.inventory, NAME), now=datetime.now(UTC))
        plans = {name: [each for part in host_plan(fleet.hosts[name], fleet, knowledge).values() for each in part] for name in HOSTS}
        assert not (more := set(left_out(HOSTS[0], plans[HOSTS[0]]))), (
            f"only Paddock looks at {more}: put it into playbook.yml and operations.py"
        )
        running = list(contenders(lab, hosts, plans, written(plans, lab.directory / "tree")))
        before = os.getloadavg()[0]
        times = taken(running, rounds)
    ports = sum(isinstance(each, Port) for each in plans[HOSTS[0]])
    print(
        f"\n{len(HOSTS)} hosts, {len(plans[HOSTS[0]])} resources each ({ports} of them ports, which only Paddock reads), nothing to change"
    )
    print(table(list(rows(running, times))))
    print(in_words(running, times))
    print(machine(before))


def written(plans: Mapping[str, Iterable[Resource]], tree: Path) -> Path:
    """The tree with the plans' files, secrets too: it lies where only its owner reads, and goes with the bench."""
    for name, plan in plans.items():
        for each in plan:
            if isinstance(each, File):
                place = tree / name / each.path.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(each.data)
    return tree


def taken(running: Iterable[Contender], rounds: int) -> Times:
    """Seconds, of each contender in each of its rounds, after one that does not count."""
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for each in running:
            if each.rarely and number > RARE_ROUNDS:
                continue
            began = time.monotonic()
            each.run()
            took = time.monotonic() - began
            print(f"  {number or 'warming up'}  {each.name}  {took:.2f} s", flush=True)
            if number:
                times.setdefault(each.name, []).append(took)
    return times


def rows(running: Iterable[Contender], times: Times) -> Iterable[tuple[str, ...]]:
    ours = statistics.median(times["paddock up"])
    yield f"medians of {len(times['paddock up'])} rounds", "median", "from", "to", "of paddock up", "aim"
    for each in running:
        took = times[each.name]
        median = statistics.median(took)
        aim = f"at least {each.aim:g}" if each.aim else ""
        yield each.name, f"{median:.2f} s", f"{min(took):.2f}", f"{max(took):.2f}", f"{median / ours:.2f}", aim


def in_words(running: Sequence[Contender], times: Times) -> str:
    ours, *_, bare, imports = (statistics.median(times[each.name]) for each in running)
    return f"paddock up is {ours / (bare + imports):.2f} times bare SSH and the import together (aim: at most {TWICE:g})"


def machine(load_before: float) -> str:
    """What it ran on. The load is the last minute's, before the first round and after the last."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    )
    cores, after = os.cpu_count(), os.getloadavg()[0]
    python = f"Python {platform.python_version()}, pyinfra {version('pyinfra')}"
    return f"{model or platform.machine()}, {cores} cores, load {load_before:.1f} before and {after:.1f} after; {python}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)

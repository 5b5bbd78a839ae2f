"""What a host is, resource by resource, and how its machine is doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cli.views import switches
from cli.views.changes import state_as_data
from cli.views.colour import coloured
from cli.views.table import table
from resources import Reached, Release, of_kind
from roles.speed import Floor, number

if TYPE_CHECKING:
    from control.deployment.work import Work
    from facts.condition import Condition
    from resources.drift import Change


def lines(host: str, work: Work, machine: Condition | None, share: int = 0) -> Iterator[str]:
    """`share`, in percent, is the floor of what a server reached."""
    wrong = {change.id: change for change in work.drift.changes if change.attributes or change.action == "remove"}
    rows = []
    for each in work.resources:
        there = work.actual.resources.get(each.id, {})
        if each.listed or each.id in wrong:
            differs = f"differs: {_how(wrong[each.id])}" if each.id in wrong else "as declared"
            rows.append((f"  {each.id}", each.state(there), differs))
    yield coloured(f"{host}: {len(wrong)} of {len(work.resources)} resources differ", "~" if wrong else "+")
    for line in machine.lines() if machine else ():
        yield coloured(f"  {line}", "-" if machine and line in machine.faults else "")
    yield from switches.switches(work.actual)
    for found in _reached(work, machine):
        yield f"  {found.unit}, {found.model}: {_speed(found, share)}"
    yield table(rows) if rows else ""


def _how(change: Change) -> str:
    """The names of what differs; of what a person is to put right, with what is there: `units (declared and /etc/…/mine.conf)`"""

    def by_hand(name: str) -> bool:
        return change.resource is not None and bool(change.resource.advice({name: ""}))

    return ", ".join(f"{name} ({actual})" if by_hand(name) else name for name, (actual, _) in change.attributes.items())


def _reached(work: Work, machine: Condition | None) -> Iterator[Reached]:
    """What each server reached last with each model, with the release that the host serves."""
    serving = {work.actual.resources.get(each.id, {}).get("current", "").rpartition("/")[2] for each in of_kind(work.resources, Release)}
    found = sorted(machine.reached if machine else (), key=lambda each: each.at)
    yield from {(each.unit, each.model): each for each in found if each.release in serving}.values()


def _speed(reached: Reached, share: int) -> str:
    """`1,812 tokens/s of prompts, 92 of generation, measured on 2026-11-30 14:45 UTC; floor 906 and 46`"""
    floor = Floor(reached, share)
    said = f"{number(reached.prompts.middle)} tokens/s of prompts, {number(reached.generation.middle)} of generation"
    measured = f"{said}, measured on {reached.at:%Y-%m-%d %H:%M UTC}"
    return f"{measured}; floor {number(floor.prompts)} and {number(floor.generation)}" if share else measured


def _speed_as_data(reached: Reached, share: int) -> Mapping[str, Any]:
    floor = Floor(reached, share)
    return {
        "unit": reached.unit,
        "model": reached.model,
        "release": reached.release,
        "prompts": asdict(reached.prompts),
        "generation": asdict(reached.generation),
        "prompt_tokens": reached.tokens,
        "measured": f"{reached.at:%Y-%m-%dT%H:%M:%SZ}",
        "floor": {"prompts": floor.prompts, "generation": floor.generation} if share else None,
    }


def as_data(work: Work, machine: Condition | None, whose: str, otherwise: str = "", share: int = 0) -> Mapping[str, Any]:
    """For `--json`. `speeds` are of servers that were measured, in tokens a second, with their floor, a `share` in percent. `stranger` says
    whose the host is, where it is another state's; `lease` is of who is changing it; `otherwise` says since when it has another
    configuration than the inventory's, or another release; `not_compared` lists what was not."""
    lease = work.actual.lease
    beside = {
        "machine": machine.as_data() if machine else None,
        "stranger": whose,
        "lease": lease.as_data() if lease and lease.words() else None,
        "switch": switches.as_data(work.actual),
        "speeds": [_speed_as_data(each, share) for each in _reached(work, machine)],
        "otherwise": otherwise,
        "not_compared": [each.id for each in work.unopened],
    }
    return {**state_as_data(work), **{name: said for name, said in beside.items() if said}}

"""What a host is, resource by resource, and how its machine is doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cli.views import switches
from cli.views.changes import state_as_data
from cli.views.colour import coloured
from cli.views.table import table

if TYPE_CHECKING:
    from control.deployment.work import Work
    from facts.condition import Condition
    from resources.drift import Change


def lines(host: str, work: Work, machine: Condition | None) -> Iterator[str]:
    wrong = {change.id: change for change in work.drift.changes if change.attributes or change.action == "remove"}
    rows = []
    for each in work.resources:
        found = work.actual.resources.get(each.id, {})
        if each.listed or each.id in wrong:
            differs = f"differs: {_how(wrong[each.id])}" if each.id in wrong else "as declared"
            rows.append((f"  {each.id}", each.state(found), differs))
    yield coloured(f"{host}: {len(wrong)} of {len(work.resources)} resources differ", "~" if wrong else "+")
    for line in machine.lines() if machine else ():
        yield coloured(f"  {line}", "-" if machine and line in machine.faults else "")
    yield from switches.switches(work.actual)
    yield table(rows) if rows else ""


def _how(change: Change) -> str:
    """The names of what differs; of what a person is to put right, with what is there: `units (declared and /etc/…/mine.conf)`"""

    def by_hand(name: str) -> bool:
        return change.resource is not None and bool(change.resource.advice({name: ""}))

    return ", ".join(f"{name} ({actual})" if by_hand(name) else name for name, (actual, _) in change.attributes.items())


def as_data(work: Work, machine: Condition | None, whose: str, otherwise: str = "") -> Mapping[str, Any]:
    """For `--json`. `stranger` says whose the host is, where it is another state's; `lease` is of who is changing it; `otherwise` says
    since when it has another configuration than the inventory's, or another release; `not_compared` lists what was not."""
    lease = work.actual.lease
    beside = {
        "machine": machine.as_data() if machine else None,
        "stranger": whose,
        "lease": lease.as_data() if lease and lease.words() else None,
        "switch": switches.as_data(work.actual),
        "otherwise": otherwise,
        "not_compared": [each.id for each in work.unopened],
    }
    return {**state_as_data(work), **{name: said for name, said in beside.items() if said}}

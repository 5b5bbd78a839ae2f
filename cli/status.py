"""Show what each host is, resource by resource.

examples:
  paddock status
  paddock status --json

Exit code 0 where all is as declared, 3 where something has drifted, the watchdog has lost a server, or a
certificate nears its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.opening import limit_argument, opened
from cli.showing import coloured, state_as_data, table
from control.condition import conditions
from facts.condition import Condition
from roles.resources import ModelFile, Port, Release, Service

if TYPE_CHECKING:
    from control.work import Work


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.deployment import Deployment

    deployment = Deployment(this.fleet, this.state, this.hosts)
    with deployment.connected():
        deployment.survey()
        machines = conditions(deployment)
    if options.json:
        print(json.dumps({name: _as_data(work, machines.get(name)) for name, work in deployment.work.items()}, indent=1))
    else:
        for name, work in deployment.work.items():
            wrong = {change.id: change for change in work.drift.changes}
            rows = []
            for each in work.resources:
                found = work.actual.resources.get(each.id, {})
                if isinstance(each, (Service, Port, Release, ModelFile)) or each.id in wrong:
                    state = (
                        found.get("active")
                        or found.get("addresses")
                        or found.get("current", "").rpartition("/")[2]
                        or ("there" if found else "missing")
                    )
                    rows.append(
                        (f"  {each.id}", state, "differs: " + ", ".join(wrong[each.id].attributes) if each.id in wrong else "as declared")
                    )
            print(coloured(f"{name}: {len(wrong)} of {len(work.resources)} resources differ", "~" if wrong else "+"))
            for line in machines.get(name, Condition()).lines():
                print(coloured(f"  {line}", "-" if line in machines[name].faults else ""))
            print(table(rows) if rows else "")
    for name, why in deployment.failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    lost = any(machine.faults for machine in machines.values())
    return 1 if deployment.failures else 3 if lost or any(work.drift for work in deployment.work.values()) else 0


def _as_data(work: Work, machine: Condition | None) -> Mapping[str, Any]:
    return {**state_as_data(work), **({"machine": machine.as_data()} if machine else {})}

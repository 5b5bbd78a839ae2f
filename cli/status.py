"""Show services, listening addresses, drift and the speed of servers of each host. Read-only.

examples:
  paddock status
  paddock status --json

Works without an identity that decrypts the state: says what it could then not compare.
Exit codes: 0 all is as declared; 3 a resource has drifted, the watchdog could not revive a server, or a certificate is about to expire.
"""

from __future__ import annotations

import argparse
import json
import sys

from cli.arguments import deep_argument, limit_argument, opened
from cli.views import looking
from cli.views.status import as_data, lines
from control.deployment.condition import conditions


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    deep_argument(command)
    command.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.deployment.deployment import Deployment
    from control.deployment.otherwise import otherwise

    deployment = Deployment(this.fleet, this.state, this.hosts, deep=options.deep, looks=True)
    with deployment.connected():
        deployment.survey()
        machines = conditions(deployment)
    said = {name: otherwise(work.plan, work.actual.history, this.fleet.name) for name, work in deployment.work.items()}
    share = this.fleet.upgrade.floor_percent
    if options.json:
        strangers = deployment.strangers
        shown = {
            name: as_data(work, machines.get(name), strangers.get(name, ""), said[name], share) for name, work in deployment.work.items()
        }
        print(json.dumps(shown, indent=1))
    else:
        for name, work in deployment.work.items():
            if name in deployment.strangers:
                print(looking.stranger(name, deployment.strangers[name]))
            print(f"{name}: {said[name]}\n" if said[name] else "", end="")
            print(looking.lease(name, work.actual.lease), end="")
            for line in lines(name, work, machines.get(name), share):
                print(line)
    if words := looking.not_compared(deployment.vault.unopened, deployment.work.values()):
        print(words, file=sys.stderr)
    for name, why in deployment.failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    lost = any(machine.faults for machine in machines.values())
    return 1 if deployment.failures else 3 if lost or any(work.drift for work in deployment.work.values()) else 0

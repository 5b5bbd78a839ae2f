"""Check every resource and each role's behaviour. Changes nothing but the note of how fast servers were.

examples:
  paddock verify
  paddock verify --limit ai
  paddock verify --deep           reads every model file in full to check its digest; slow
  paddock verify --measure        measures how fast servers are now, and holds them to that from now on

A server that is slower than the floor of what it reached fails (`upgrade: {floor: 50%}`). One that was never measured is, while it is idle.
It uses its own connection and commands (testinfra over SSH), so it does not repeat an error of `up`. Of a host that fails because it was
rolled back, or has another release than the inventory's, it says since when, and what the next `up` does.
Exit codes: 0 all checks pass, 1 one fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial

from cli.arguments import Opened, limit_argument, opened
from control.deployment.plans import Plans
from control.deployment.verification import verify


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--deep", action="store_true", help="read every model file to check its digest, instead of the recorded one")
    command.add_argument("--measure", action="store_true", help="measure how fast servers are, in place of what is noted of them")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    plans = Plans(this.fleet, this.state)
    planned = {host.name: plans.of(host) for host in this.hosts}
    complain = partial(print, file=sys.stderr)
    failed = verify(this.fleet, this.state, planned, print, complain, deep=options.deep, measures=options.measure)
    differing = [name for name, number in failed.items() if number]
    if differing:
        for name, words in _otherwise(this, plans, differing).items():
            print(f"{name}: {words}", file=sys.stderr)
    return 1 if differing else 0


def _otherwise(this: Opened, plans: Plans, names: list[str]) -> Mapping[str, str]:
    """Host → why it differs, by its own history. Of what cannot be reached its checks have told."""
    from control.deployment.otherwise import otherwise_there
    from control.ssh.reach import Reach

    hosts = [this.fleet.hosts[name] for name in names]
    reach = Reach(this.fleet, this.state, hosts)
    with reach.connected():
        return otherwise_there(reach.run, {host.name: plans.of(host) for host in hosts}, this.fleet.name)

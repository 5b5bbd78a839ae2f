"""Check every resource and each role's behaviour. Read-only.

examples:
  paddock verify
  paddock verify --limit ai
  paddock verify --deep           reads every model file in full to check its digest; slow

It uses its own connection and commands (testinfra over SSH), so it does not repeat an error of `up`.
Exit codes: 0 all checks pass, 1 one fails.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from cli.arguments import limit_argument, opened
from control.deployment.plans import Plans
from control.deployment.verification import verify


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--deep", action="store_true", help="read every model file to check its digest, instead of the recorded one")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    plans = Plans(this.fleet, this.state)
    planned = {host.name: plans.of(host) for host in this.hosts}
    failed = verify(this.fleet, this.state, planned, print, partial(print, file=sys.stderr), deep=options.deep)
    return 1 if any(failed.values()) else 0

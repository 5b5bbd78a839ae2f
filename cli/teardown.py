"""Take away from the hosts what Paddock put there; what was there before comes back.

examples:
  paddock teardown --limit ai       asks first
  paddock teardown --yes --data     models too

Models and other data stay unless `--data` is given.
"""

from __future__ import annotations

import argparse
import time

from cli.opening import confirmed, limit_argument, opened
from cli.showing import lines
from cli.telling import Telling


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")
    command.add_argument("--data", action="store_true", help="take models and other data away too")


def run(options: argparse.Namespace) -> int:
    this, telling, began = opened(options), Telling(), time.monotonic()
    from control.deployment import Deployment
    from control.lock import operator_lock

    with operator_lock(this.state, "teardown"):
        deployment = Deployment(this.fleet, this.state, this.hosts, telling.of, lambda question: False, leaving=True, data=options.data)
        with deployment.connected():
            deployment.survey()
            for name, work in deployment.work.items():
                telling.line(f"{name}: " + (f"{len(work.drift.changes)} to take away" if work.drift else "nothing of Paddock's is there"))
                for line in lines(work):
                    telling.line(line)
            telling.failures(deployment.failures)
            if any(work.drift for work in deployment.work.values()):
                if not confirmed("Take it away?", options.yes, "give --yes to do it"):
                    telling.error("nothing was changed")
                    return 1
                deployment.converge()
                telling.failures(deployment.failures)
    telling.line(f"{time.monotonic() - began:.1f} s")
    return 1 if deployment.failures else 0

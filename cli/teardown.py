"""Remove all that Paddock installed on the hosts, and restore the files that were there before.

examples:
  paddock teardown --limit ai       asks first
  paddock teardown --yes --data     removes models, the gateway's databases and caches too
  paddock teardown --take-over      also what another fleet, or another state of this one, has installed

Keeps models and other data unless you pass `--data`.
"""

from __future__ import annotations

import argparse
import time

from cli.arguments import limit_argument, opened, steal_lock_argument, take_over_argument
from cli.asking import confirmed
from cli.views.changes import lines
from cli.views.progress import Progress


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")
    take_over_argument(command)
    steal_lock_argument(command)
    command.add_argument("--data", action="store_true", help="remove models and other data too")


def run(options: argparse.Namespace) -> int:
    this, progress, began = opened(options), Progress(), time.monotonic()
    from control.deployment.deployment import Deployment
    from control.lifecycle.recording import recording
    from control.state.lock import operator_lock

    with (
        recording(this.state, "teardown", progress.error) as record,
        operator_lock(this.state, "teardown", steals=options.steal_lock) as holder,
    ):
        deployment = Deployment(
            *(this.fleet, this.state, this.hosts, progress.of),
            leaving=True,
            data=options.data,
            takes_over=options.take_over,
            changing=record.opens,
            holder=holder,
        )
        with deployment.connected():
            deployment.survey()
            for name, work in deployment.work.items():
                if name in deployment.strangers:
                    progress.line(f"{name}: {deployment.strangers[name]}: it is taken over")
                progress.line(f"{name}: " + (f"{len(work.drift.changes)} to take away" if work.drift else "nothing of Paddock's is there"))
                for line in lines(work):
                    progress.line(line)
            progress.failures(deployment.failures)
            if any(work.drift for work in deployment.work.values()):
                if not confirmed("Take it away?", options.yes, "give --yes to do it"):
                    progress.error("nothing was changed")
                    return 1
                deployment.converge()
                progress.failures(deployment.failures)
    progress.line(f"{time.monotonic() - began:.1f} s")
    return 1 if deployment.failures else 0

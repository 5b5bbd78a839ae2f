"""A run whose changes its hosts take back unless they are confirmed: `guarded_up.py INVENTORY ID DEADLINE_S hold|confirm|take-back`."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import argparse
import sys
import time
from pathlib import Path

from cli.arguments import opened
from control.deployment.deployment import Deployment
from control.deployment.guard import Switch, guard_of
from control.state.lock import operator_lock

assert control.ssh.cooperative


def main(inventory: str, id: str, deadline_s: str, then: str) -> int:
    this = opened(argparse.Namespace(inventory=Path(inventory), lab=True, limit=[]))
    with operator_lock(this.state, "upgrade"):
        deployment = Deployment(
            this.fleet, this.state, this.hosts, lambda *said: print(*said), guard=lambda work: guard_of(work, id, int(deadline_s))
        )
        with deployment.connected():
            deployment.survey(fit=True)
            guards = {name: guard for name, work in deployment.work.items() if (guard := deployment.guard(work))}
            deployment.converge()
            print("switched", dict(deployment.failures), flush=True)
            if then == "hold":
                time.sleep(3600)
            for name, guard in guards.items():
                switch = Switch(deployment.run, name, guard)
                if then == "confirm":
                    switch.extend()
                    switch.confirm()
                else:
                    print(switch.take_back("the canary answers nonsense", "it said: Banana\n"))
                    print("evidence", switch.evidence(this.state))
    return 1 if deployment.failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

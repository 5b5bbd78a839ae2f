"""Show what `up` would change, as a diff; changes and issues nothing.

examples:
  paddock plan
  paddock plan --limit ai
  paddock plan --json

`+` is new, `~` differs, `-` left the inventory. Exit code 0 where nothing would change, 3 where something would.
"""

from __future__ import annotations

import argparse
import json
import sys

from cli.opening import limit_argument, opened
from cli.showing import as_data, lines, shown


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.deployment import Deployment

    deployment = Deployment(this.fleet, this.state, this.hosts, ask=lambda question: False)
    with deployment.connected():
        deployment.survey()
    if options.json:
        print(
            json.dumps(
                {"hosts": {name: as_data(work) for name, work in deployment.work.items()}, "failed": dict(deployment.failures)}, indent=1
            )
        )
    else:
        for certificate in deployment.due():
            print(f"  ~ certificate {certificate}")
        for name, work in deployment.work.items():
            print(f"{name}: " + (f"{len(shown(work))} to change" if work.drift else "as declared"))
            print(*lines(work), sep="\n", end="\n" if work.drift or work.drift.left else "")
    for name, why in deployment.failures.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 1 if deployment.failures else 3 if any(work.drift for work in deployment.work.values()) or deployment.due() else 0

"""Show how much memory the models need, in RAM and on each card, and whether they fit; connects to no host.

examples:
  paddock models fit
  paddock models fit --limit ai --json

Exit codes: 0 everything fits, 1 something does not, or its memory is unknown and so not checked.
"""

from __future__ import annotations

import argparse
import json
import sys

from cli.arguments import limit_argument, opened
from cli.views.fit import as_data, on_terminal, together


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.fit import fit_of

    this = opened(options)
    fit = fit_of(this.fleet, this.state, this.path, this.hosts)
    if options.json:
        hosts = {
            host: {"places": as_data(each.pools), "refused": each.refused, "unchecked": each.unchecked, "remarks": each.remarks}
            for host, each in fit.hosts.items()
        }
        print(json.dumps({"hosts": hosts, "unread": fit.unread}, indent=1))
    else:
        for host, each in fit.hosts.items():
            print(f"{host}:" if each.pools else f"{host}: memory unknown: not checked")
            for line in on_terminal(each.pools):
                print(line)
        for line in together(line for each in fit.hosts.values() for line in (*each.remarks, *each.unchecked, *each.refused)):
            print(line, file=sys.stderr)
    return 1 if fit.unread or any(each.refused or each.unchecked for each in fit.hosts.values()) else 0

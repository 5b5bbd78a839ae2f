"""List every user's keys: those that the inventory declares, and those that were made at a gateway.

examples:
  paddock keys list
  paddock keys list --limit pi --json

States: `valid`, `expired`, `disabled`. Of a declared user also `to be made` (there is no key yet), `to be landed` (a gateway does not know
the user yet) and `left the inventory`: `paddock up` makes and lands keys, and gateways forget who has left.
"""

from __future__ import annotations

import argparse
import json
import time

from cli.arguments import limit_argument, opened
from cli.keys.gateways import answering, databases
from cli.views.keys import as_data, lines
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, now = opened(options), time.time()
    meant = databases(this, None)
    from control.servers.listed_keys import compared, of_gateway, of_inventory

    found = of_inventory(this.fleet, Vault(this.state, looks=True), now)
    with answering(this, meant) as there:
        made = [of_gateway(each.record, each.hosts, now) for each in there.kept()]
    found = [*compared(found, there.declared), *made]
    if options.json:
        print(json.dumps([as_data(each) for each in found], indent=1))
    elif found:
        print(lines(found))
    else:
        print("no users: `users` in the inventory declares some, `paddock keys create` makes others")
    return 1 if there.lacking else 0

"""Try an inventory on throw-away hosts: make them, deploy, verify, take them away.

examples:
  paddock rehearse -i home.yml
  paddock rehearse -i home.yml --keep      leaves the hosts for a look (`paddock lab ssh HOST`)

At the end it lists what the lab had to replace: addresses, models, accelerators, clocks. Your machines are not touched.
"""

from __future__ import annotations

import argparse

from cli.opening import inventory_path, opened
from cli.up import bring_up
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keep", action="store_true", help="leave the hosts running; those that ran before are left in any case")


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    fleet = load(inventory_path(options))
    keep = options.keep or bool(hosts.list(fleet.name))
    try:
        hosts.up(fleet)
        this = opened(argparse.Namespace(inventory=options.inventory, lab=True, limit=[]))
        result = bring_up(this, yes=True, verified="always", chat=keep)
    finally:
        if not keep:
            hosts.down(fleet.name)
    print("\nreplaced for the rehearsal:", *(f"  {each}" for each in this.replaced), sep="\n")
    return result

"""Try an inventory on throw-away hosts: create, deploy, verify, delete.

examples:
  paddock rehearse -i home.yml
  paddock rehearse -i home.yml --keep      leaves the hosts running (`paddock lab ssh HOST`)

At the end it lists the lab's replacements: addresses, models, accelerators, clocks. It does not connect to your machines.
"""

from __future__ import annotations

import argparse

from cli.arguments import kept_inventory, opened
from cli.up import bring_up
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keep", action="store_true", help="leave the hosts running; hosts that ran before always stay")


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    fleet = load(kept_inventory(options))
    keep = options.keep or bool(hosts.list(fleet.name))
    try:
        hosts.up(fleet)
        this = opened(argparse.Namespace(inventory=options.inventory, lab=True, limit=[]))
        result = bring_up(this, verb="rehearse", yes=True, verified="always", chat=keep, take_over=True)
    finally:
        if not keep:
            hosts.down(fleet.name)
    print("\nreplaced for the rehearsal:", *(f"  {each}" for each in this.replaced), sep="\n")
    return result

"""Create the lab hosts, or start those that stopped.

examples:
  paddock lab up
  paddock lab up --limit ai
"""

from __future__ import annotations

import argparse

from cli.arguments import kept_inventory, limit_of
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", action="append", default=[], metavar="HOST|ROLE|GROUP", help="only these hosts")


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    path = kept_inventory(options)
    fleet = load(path)
    hosts.up(fleet, limit_of(options, fleet, path))
    return 0

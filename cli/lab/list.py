"""List the lab hosts of every inventory.

examples:
  paddock lab list
"""

from __future__ import annotations

import argparse

from cli.views.table import table


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    heads = ("fleet", "host", "address", "state", "kind")
    print(table([heads, *((each.fleet, each.name, each.address, each.state, each.kind) for each in hosts.list())]))
    return 0

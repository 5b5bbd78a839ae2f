"""Delete the lab hosts and all their data.

examples:
  paddock lab down
"""

from __future__ import annotations

import argparse

from cli.arguments import inventory_path
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    hosts.down(load(inventory_path(options)).name)
    return 0

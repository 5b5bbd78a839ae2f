"""Say everything that is wrong with the inventory.

examples:
  paddock check                  the inventory that PADDOCK_INVENTORY names, or inventory.yml
  paddock -i home.yml check

No connection is made. Exit code 0 where all is well, 2 where something is wrong.
"""

from __future__ import annotations

import argparse

from cli.opening import inventory_path
from inventory.load import load, require_lock
from inventory.summary import summary


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    path = inventory_path(options)
    fleet = load(path)
    require_lock(path, fleet)
    print(f"{path}: well. {summary(fleet)}")
    return 0

"""Say everything that is wrong with the inventory.

examples:
  paddock check                  the inventory that PADDOCK_INVENTORY names, or inventory.yml
  paddock -i home.yml check

No connection is made: what a version of llama-server takes is known of the one that Paddock builds by default, of a source tree on this
machine, and of each that `plan` or `up` has fetched. Exit code 0 where all is well, 2 where something is wrong.
"""

from __future__ import annotations

import argparse

from cli.opening import inventory_path
from inventory.load import load, require_lock
from inventory.summary import summary, warnings


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    path = inventory_path(options)
    fleet = load(path)
    require_lock(path, fleet)
    from control.options import checked

    presets = checked(path, fleet)
    print(f"{path}: well. {summary(fleet)}")
    print(*(f"  {line}\n" for line in warnings(fleet)), sep="", end="")
    print(*presets.going, sep="\n", end="\n" if presets.going else "")
    for source in presets.unknown:
        print(f"not checked: presets for {source.identity}, whose options are not known yet: `paddock plan` looks for them in its source")
    return 0

"""Report all errors of the inventory. Connects to no host.

examples:
  paddock check                  the inventory that PADDOCK_INVENTORY names, or inventory.yml
  paddock -i home.yml check

Checks presets against the options of llama-server: of Paddock's default version, of a source tree on this machine, and of each version that
`plan` or `up` has fetched. Checks models of known header against what that version loads, and against the memory of hosts that `plan` has
looked at; says what it could not check. Exit codes: 0 no errors, 2 errors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cli.arguments import inventory_path
from cli.views.fit import together
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.load import loaded, require_lock
from inventory.summary import summary, warnings


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    path = inventory_path(options)
    this = loaded(path)
    require_lock(this)
    from control.llama_cpp.options import checked

    presets = checked(this.positions, this.fleet)
    models = _models(path, this.fleet)
    print(f"{path}: no errors. {summary(this.fleet)}")
    print(*(f"  {line}\n" for line in warnings(this.fleet)), sep="", end="")
    print(*presets.going, sep="\n", end="\n" if presets.going else "")
    for source in presets.unknown:
        print(f"not checked: presets for {source.identity}: its options are not known yet, `paddock plan` reads them from its source")
    print(*models, sep="\n", end="\n" if models else "")
    return 0


def _models(path: Path, fleet: Fleet) -> list[str]:
    """What to know of the hosts' models. Raises InventoryError where one cannot be loaded, or does not fit."""
    from control.deployment.fit import known_fit
    from control.state.fleet import FleetState

    try:
        found = known_fit(fleet, FleetState.of(path, fleet.name)).values()
    except PaddockError as error:
        return [f"memory unknown: not checked: {error}"]
    if refused := [line for each in found for line in each.refused]:
        raise InventoryError([f"{path}: {line}" for line in together(refused)])
    return together(line for each in found for line in (*each.remarks, *each.unchecked))

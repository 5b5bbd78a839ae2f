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
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cli.arguments import inventory_path
from cli.views.fit import together
from inventory.errors import InventoryError, PaddockError
from inventory.load import Loaded, loaded, require_lock
from inventory.placing import placed_line
from inventory.summary import summary, warnings

T = TypeVar("T")

AT = re.compile(r":(\d+):(\d+): ")
"""Line and column of a problem."""

AT_KEYS = re.compile(r":\d+:\d+: hosts\.[^ ]+(?=: )")
"""These, and the keys that lead to it. Its own words follow."""


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    path = inventory_path(options)
    this = loaded(path)
    from control.llama_cpp.options import checked

    told = _Told()
    told.by(lambda: require_lock(this))
    presets = told.by(lambda: checked(this.positions, this.fleet))
    unused = told.by(lambda: _plans(path, this)) or []
    models = told.by(lambda: _models(path, this)) or []
    told.require_nothing()
    assert presets
    print(f"{path}: no errors. {summary(this.fleet)}")
    print(*(f"  {line}\n" for line in warnings(this.fleet)), sep="", end="")
    print(*presets.going, sep="\n", end="\n" if presets.going else "")
    for source in presets.unknown:
        learned = "`up` tries them on the host"
        if not source.packages:
            learned = "`paddock plan` reads them from its source, and whether its router can make room"
        print(f"not checked: presets for {source.identity}: its options are not known yet, {learned}")
    print(*(f"{line}\n" for line in dict.fromkeys((*models, *unused))), sep="", end="")
    return 0


class _Told:
    """What several looks at an inventory tell, each of which would end with its first."""

    def __init__(self) -> None:
        self._problems: dict[tuple[int, int, str], str] = {}

    def by(self, look: Callable[[], T]) -> T | None:
        """What a look gives, None where it has something to tell. A place is told of once, and so is a problem: a look that comes later
        may find it at what it is a part of."""
        try:
            return look()
        except InventoryError as error:
            before = tuple(words for problem in self._problems.values() if (words := AT_KEYS.split(problem, maxsplit=1)[-1]) != problem)
            for problem in error.problems:
                if problem.endswith(before):
                    continue
                line, column, *_ = map(int, AT.findall(problem)[0] if AT.search(problem) else (0, 0))
                self._problems.setdefault((line, column, "" if line else problem), problem)
            return None

    def require_nothing(self) -> None:
        """Raises InventoryError with all that was told, in the order of the file."""
        if self._problems:
            raise InventoryError([self._problems[at] for at in sorted(self._problems)])


def _plans(path: Path, this: Loaded) -> list[str]:
    """A line where what is kept of the fleet was of no use. Raises InventoryError with all that keeps its hosts from being planned."""
    from control.deployment.plannable import require_plannable, require_plannable_now
    from control.state.fleet import FleetState

    try:
        state = FleetState.of(path, this.fleet.name)
    except PaddockError as error:
        require_plannable(this.positions, this.fleet)
        return [f"not checked: what is kept of the fleet: {error}"]
    why = require_plannable_now(this.positions, this.fleet, state)
    return [f"not checked: what is kept of the fleet: {why}"] if why else []


def _models(path: Path, this: Loaded) -> list[str]:
    """What to know of the hosts' models. Raises InventoryError where one cannot be loaded, or does not fit."""
    from control.deployment.fit import known_fit
    from control.state.fleet import FleetState

    try:
        found = known_fit(this.fleet, FleetState.of(path, this.fleet.name)).values()
    except PaddockError as error:
        return [f"memory unknown: not checked: {error}"]
    if refused := [line for each in found for line in each.refused]:
        raise InventoryError([placed_line(line, this.positions) for line in together(refused)])
    return together(line for each in found for line in (*each.remarks, *each.unchecked))

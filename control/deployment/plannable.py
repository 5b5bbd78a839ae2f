"""Whether a fleet can be planned, found without a connection: the files here that it names, and the plans of all of its hosts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from control.deployment.knowledge import knowledge_for, knowledge_of_inventory
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from inventory.load import Positions
from inventory.local_files import local_files, missing
from inventory.placing import placed
from roles.host_plan import faults_of
from roles.references import Finding


def require_plannable(positions: Positions, fleet: Fleet, *, files: bool = True) -> None:
    """Raises InventoryError with all that keeps the fleet from being planned, whatever its machines are. Without `files`, those that only
    a deployment reads may be missing."""
    _require(positions, fleet, None, files=files)


def require_plannable_now(positions: Positions, fleet: Fleet, state: FleetState) -> str:
    """As `require_plannable`, with what is kept of the fleet, its machines too; why that could not be used, where it could not."""
    try:
        knowledge = knowledge_for(fleet, state, now=datetime.now(UTC), vault=Vault(state, looks=True))
    except PaddockError as error:
        _require(positions, fleet, None)
        return str(error)
    _require(positions, fleet, knowledge)
    return ""


def _require(positions: Positions, fleet: Fleet, knowledge: Knowledge | None, *, files: bool = True) -> None:
    lost = {problem.place: problem for problem in placed(_lost(positions, fleet), positions)} if files else {}
    known = knowledge or knowledge_of_inventory(fleet, positions.path.absolute().parent)
    found = ((name, fault) for name, host in fleet.hosts.items() for fault in faults_of(host, fleet, known))
    faults = (problem for problem in placed(found, positions) if problem.place not in lost)
    if problems := sorted([*lost.values(), *faults]):
        raise InventoryError([problem.told(positions.path) for problem in problems])


def _lost(positions: Positions, fleet: Fleet) -> Iterator[tuple[str, Finding]]:
    """The files of this machine that hosts need, and that are not there."""
    beside = positions.path.absolute().parent
    for name, host in fleet.hosts.items():
        for each in local_files(host):
            if words := missing(each.path, each.here, beside):
                yield name, Finding(each.keys, words, of_value=True)

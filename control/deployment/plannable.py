"""Whether a fleet can be planned, found without a connection: the files here that it names, and the plans of all of its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from control.deployment.knowledge import knowledge_for, knowledge_of_inventory
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from inventory.load import Positions
from inventory.local_files import local_files, missing
from inventory.placing import placed
from roles.host_plan import faults_of
from roles.references import Finding


def require_plannable(positions: Positions, fleet: Fleet, *, deploys: Iterable[Host] | None = None) -> None:
    """Raises InventoryError with all that keeps the fleet from being planned, whatever its machines are. Where not all hosts are deployed,
    `deploys` are those that are: files that only a deployment reads may be missing for the others."""
    _require(positions, fleet, None, fleet.hosts.values() if deploys is None else deploys)


def require_plannable_now(positions: Positions, fleet: Fleet, state: FleetState) -> str:
    """As `require_plannable`, with what is kept of the fleet, its machines too; why that could not be used, where it could not."""
    try:
        knowledge = knowledge_for(fleet, state, now=datetime.now(UTC), vault=Vault(state, looks=True))
    except PaddockError as error:
        _require(positions, fleet, None, fleet.hosts.values())
        return str(error)
    _require(positions, fleet, knowledge, fleet.hosts.values())
    return ""


def _require(positions: Positions, fleet: Fleet, knowledge: Knowledge | None, deploys: Iterable[Host]) -> None:
    lost = {problem.place: problem for problem in placed(_lost(positions, fleet, deploys), positions)}
    known = knowledge or knowledge_of_inventory(fleet, positions.path.absolute().parent)
    found = ((name, fault) for name, host in fleet.hosts.items() for fault in faults_of(host, fleet, known))
    faults = (problem for problem in placed(found, positions) if problem.place not in lost)
    if problems := sorted([*lost.values(), *faults]):
        raise InventoryError([problem.told(positions.path) for problem in problems])


def _lost(positions: Positions, fleet: Fleet, deploys: Iterable[Host]) -> Iterator[tuple[str, Finding]]:
    """The files of this machine that hosts need, and that are not there."""
    beside = positions.path.absolute().parent
    for host in deploys:
        for each in local_files(host):
            if words := missing(each.path, each.here, beside):
                yield host.name, Finding(each.keys, words, of_value=True)

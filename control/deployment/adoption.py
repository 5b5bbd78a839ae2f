"""What hosts know of a newer state that is lost, and a state that takes it over."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control.deployment.asking import revoked_there
from control.deployment.deployment import Deployment
from control.pki.leaves import Leaves
from control.pki.revocations import Revocations, lacking, merged, take
from control.ssh.run import Tell
from control.state.fleet import FleetState
from control.state.lineage import adopt
from control.state.lock import admission_lock
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from resources.owner import UNREADABLE, Owner

assert control.ssh.cooperative


@dataclass(frozen=True)
class Newer:
    """`owners` and `whose` are of the hosts that know a newer, or another, state of the fleet; `lacking` is what the one here does not know
    of their `revocations`."""

    owners: Mapping[str, Owner]
    whose: Mapping[str, str]
    revocations: Revocations
    lacking: tuple[str, ...]
    has_ca: bool
    failures: Mapping[str, str]


def newer(fleet: Fleet, state: FleetState, hosts: tuple[Host, ...], *, tell: Tell, ask: Callable[[str], bool]) -> Newer:
    """Asks the hosts. Raises PaddockError where they know of several states."""
    deployment = Deployment(fleet, state, hosts, tell, ask, looks=True)
    with deployment.connected():
        deployment.survey()
        owners = {name: actual.owner for name, actual in deployment.actual.items() if actual.owner and name in deployment.strangers}
        owners = {name: owner for name, owner in owners.items() if owner != UNREADABLE and owner.fleet == fleet.name}
        theirs = merged(revoked_there(deployment.run, list(owners)).values())
    if len({owner.id for owner in owners.values()}) > 1:
        which = ", ".join(f"{name} {owner.id}" for name, owner in sorted(owners.items()))
        raise PaddockError(f"the hosts know of several states ({which}): choose those of one with --limit")
    leaves = Leaves(state, Vault(state))
    return Newer(
        owners,
        {name: deployment.strangers[name] for name in owners},
        theirs,
        tuple(lacking(leaves, theirs)),
        deployment.authority.bundle() is not None,
        deployment.failures,
    )


def adopted(state: FleetState, known: Newer) -> None:
    """The state knows it now: revocations first, so that a run that dies between them lets nobody in."""
    with admission_lock(state):
        take(Leaves(state, Vault(state)), known.revocations)
        adopt(state, tuple(known.owners.values()))

"""What hosts are, asked over their connections: the hardware, and the actual state of what plans name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control.ssh.run import Run, fact  # isort: skip - first of all, for gevent
from pyinfra.api import Host as Target

from control.deployment.bearers import REVOKED
from control.deployment.ownership import stranger
from control.pki import revocations
from control.pki.revocations import Revocations
from control.state.fleet import FleetState
from control.state.lineage import lineage_of
from facts.hardware import HardwareFact
from facts.state import State, probe_script
from inventory.bounds import REVOCATIONS
from inventory.hardware import Hardware
from resources import Resource, lease
from resources.lease import Lease
from resources.owner import MANIFEST, Owner, owner_of
from resources.probe import Actual


def hardware(run: Run, names: Iterable[str]) -> dict[str, Hardware]:
    """Host → what its machine is. `run.failures` says why of those that did not answer."""
    return run.of_each(names, lambda target: fact(target, HardwareFact(), HardwareFact().command(), None))


def probe(run: Run, resources: Mapping[str, tuple[Resource, ...]], *, deep: bool = False) -> dict[str, Actual]:
    """Host → the actual state of its resources, in one command a host; `deep` reads models and releases whole.

    `run.failures` says why of those that did not answer.
    """

    def ask(target: Target) -> Actual:
        state, asked = State(), resources[target.name]
        return fact(target, state, state.command(asked), probe_script(asked, deep=deep))

    return run.of_each(resources, ask)


def owners_there(run: Run, names: Iterable[str]) -> dict[str, Owner | None]:
    """Host → whose it is by its manifest, None of one that is nobody's. A host that does not answer is left out."""
    asked = dict.fromkeys(names, f"[ ! -f {MANIFEST} ] || grep -a '^fleet' {MANIFEST} | head -c 1000")
    return {name: owner_of(lines) for name, lines in run.said(asked).items()} if asked else {}


def leases_there(run: Run, names: Iterable[str]) -> dict[str, Lease | None]:
    """Host → the lease of the run that is changing it, or did so last. A host that does not answer is left out."""
    said = run.said(dict.fromkeys(names, lease.asking()))
    return {name: lease.lease_of(next(iter(lines), "")) for name, lines in said.items()}


def refuse_strangers(run: Run, names: Iterable[str], state: FleetState) -> None:
    """Before something is done on hosts that were not surveyed: asks them whose they are. Those that are another state's have failed, and
    those that do not say."""
    asked = [name for name in names if name not in run.failures]
    owners, lineage = owners_there(run, asked), lineage_of(state)
    for name in asked:
        if name not in owners:
            run.failures.setdefault(name, "whose it is cannot be read: nothing was done there")
        elif whose := stranger(owners[name], state.fleet, lineage):
            run.failures[name] = f"{whose}. Nothing was done there: `paddock up --limit {name}` says what to do instead"


def revoked_there(run: Run, names: Iterable[str]) -> dict[str, Revocations]:
    """Host → who has been thrown out, as it was told last; nobody where it lets nobody in. A host that does not answer is left out."""
    script = f"[ ! -f {REVOKED} ] || head -c {REVOCATIONS.size} {REVOKED}"
    asked = dict.fromkeys(names, script)
    return {name: revocations.read(lines) for name, lines in run.said(asked).items()} if asked else {}

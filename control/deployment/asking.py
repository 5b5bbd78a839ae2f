"""What hosts are, asked over their connections: the hardware, and the actual state of what plans name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control.ssh.run import Run, fact  # isort: skip - first of all, for gevent
from pyinfra.api import Host as Target

from control.deployment.bearers import REVOKED
from control.pki import revocations
from control.pki.revocations import Revocations
from facts.hardware import HardwareFact
from facts.state import State, probe_script
from inventory.hardware import Hardware
from resources import Resource
from resources.probe import Actual

REVOCATIONS_MOST_BYTES = 1_000_000


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


def revoked_there(run: Run, names: Iterable[str]) -> dict[str, Revocations]:
    """Host → who has been thrown out, as it was told last; nobody where it lets nobody in. A host that does not answer is left out."""
    script = f"[ ! -f {REVOKED} ] || head -c {REVOCATIONS_MOST_BYTES} {REVOKED}"
    asked = dict.fromkeys(names, script)
    return {name: revocations.read(lines) for name, lines in run.said(asked).items()} if asked else {}

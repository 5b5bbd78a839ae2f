"""A part of what there is to do on hosts, done ahead of the rest or without it."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control.deployment.deployment import Changing, Deployment
from control.deployment.work import Work
from control.ssh.run import Tell
from control.state.fleet import FleetState
from control.state.lock import operator_lock
from inventory.fleet import Fleet, Host

assert control.ssh.cooperative

Part = Callable[[str, Work], Work]
"""Of a host's work the part that is meant."""


@dataclass(frozen=True)
class Partial:
    """`work` has the hosts where there was anything of the part to do; `agreed` is False where the person said no to it."""

    work: Mapping[str, Work]
    failures: Mapping[str, str]
    agreed: bool = True


def parts(deployment: Deployment, part: Part) -> dict[str, Work]:
    """Looks at the hosts, and gives host → its part of the work, where there is any."""
    deployment.survey()
    return parts_of(deployment, part)


def parts_of(deployment: Deployment, part: Part) -> dict[str, Work]:
    """Host → its part of the work, where there is any, as the hosts were when they were last looked at."""
    work = {name: part(name, each) for name, each in deployment.work.items() if name not in deployment.failures}
    return {name: each for name, each in work.items() if each.drift.changes}


def carry_out_part(
    fleet: Fleet,
    state: FleetState,
    hosts: tuple[Host, ...],
    verb: str,
    part: Part,
    *,
    agree: Callable[[Mapping[str, Work]], bool],
    changing: Changing,
    tell: Tell,
    ask: Callable[[str], bool],
    steals: bool = False,
) -> Partial:
    """Looks at the hosts, and where `agree` says so carries out their part of the work, all under the lock of the fleet. `changing`
    is the deployment's."""
    with operator_lock(state, verb, steals=steals) as holder:
        deployment = Deployment(fleet, state, hosts, tell, ask, changing=changing, holder=holder)
        with deployment.connected():
            work = parts(deployment, part)
            if work and not agree(work):
                return Partial(work, deployment.failures, agreed=False)
            if work:
                deployment.carry_out(work)
    return Partial(work, deployment.failures)

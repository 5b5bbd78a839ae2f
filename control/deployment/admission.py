"""Pushes changed certificates and revocations to the hosts, at once and without the rest of the plan."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from control.deployment.bearers import bearing, certificates_alone
from control.deployment.deployment import Deployment
from control.deployment.partial import parts
from control.deployment.work import Work
from control.ssh.run import Tell
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.fleet import Fleet

assert control.ssh.cooperative


@dataclass(frozen=True)
class Pushed:
    """`hosts` carry certificates; on `reached` of them the change is in force, of the others `failures` says why not."""

    hosts: tuple[str, ...]
    reached: tuple[str, ...]
    failures: Mapping[str, str]


def push(
    fleet: Fleet, state: FleetState, now: datetime, *, tell: Callable[[str], None], tell_host: Tell, ask: Callable[[str], bool]
) -> Pushed:
    """Brings the roles that lay certificates up to date on every host that carries one. `tell` hears what is issued for that."""
    hosts = bearing(fleet)
    if not hosts:
        return Pushed((), (), {})
    deployment = Deployment(fleet, state, hosts, tell_host, ask)
    if deployment.due():  # a plan is whole only then
        for line in deployment.authority.issue(fleet, now):
            tell(line)
        api_keys.issue(fleet, Vault(state))
    with deployment.connected():
        work = parts(deployment, _certificates)
        if work:
            deployment.carry_out(work)
            for name in parts(deployment, _certificates):
                deployment.run.failures.setdefault(name, "still differs after the run: `paddock plan` shows how")
    reached = tuple(name for name in deployment.work if name not in deployment.failures)
    return Pushed(tuple(host.name for host in hosts), reached, deployment.failures)


def _certificates(host: str, work: Work) -> Work:
    return certificates_alone(work)

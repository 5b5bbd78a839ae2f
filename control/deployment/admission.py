"""Pushes changed certificates and revocations to the hosts, at once and without the rest of the plan."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from control.deployment.asking import leases_there
from control.deployment.bearers import bearing, certificates_alone
from control.deployment.deployment import Changing, Deployment
from control.deployment.partial import parts, parts_of
from control.deployment.work import Work
from control.pki.leaves import KINDS
from control.ssh.run import Tell
from control.state.fleet import FleetState
from control.state.lock import Holder
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED
from resources import File

assert control.ssh.cooperative


OF_CLIENTS = ("server", "client")
"""The kinds of certificates that matter to clients."""


@dataclass(frozen=True)
class Pushed:
    """`hosts` carry certificates; on `reached` of them the change is in force, of the others `failures` says why not."""

    hosts: tuple[str, ...]
    reached: tuple[str, ...]
    failures: Mapping[str, str]


def push(
    fleet: Fleet,
    state: FleetState,
    *,
    tell: Callable[[str], None],
    tell_host: Tell,
    ask: Callable[[str], bool],
    changing: Changing,
    first: Callable[[], None] | None = None,
    of_clients: bool = False,
    holder: Holder | None = None,
) -> Pushed:
    """Brings the roles that lay certificates up to date on every host that carries one, or `of_clients` where these matter. `tell` hears
    what is issued for that, `changing` what is about to be done on hosts.

    `first` signs what is to be signed, once hosts have agreed with this machine's clock. Raises PaddockError where they say another time,
    and where another run is changing one of them; without a `holder` of the fleet's lock that is done beside such a run.
    """
    hosts = bearing(fleet, of_clients=of_clients)
    if not hosts:
        if first:
            first()
        return Pushed((), (), {})
    deployment = Deployment(fleet, state, hosts, tell_host, ask, changing=changing, holder=holder)
    with deployment.connected():
        if first:
            deployment.ask_time()
            deployment.require_time()
            deployment.leases.require_free(leases_there(deployment.run, [host.name for host in hosts]))
            first()
            deployment.outdated()
        deployment.survey()
        try:
            # A plan is whole only then. What hosts show each other is issued where all of them are asked.
            for line in deployment.issue(OF_CLIENTS if of_clients else KINDS):
                tell(line)
        except PaddockError as error:
            if first:
                raise
            tell(str(error))
            for name in _unfinished(deployment):  # who is thrown out is refused by the others all the same
                deployment.run.failures[name] = "a certificate is to be issued for it first"
        part = partial(_certificates, of_clients=of_clients)
        work = parts_of(deployment, part)
        if work:
            deployment.carry_out(work)
            for name in parts(deployment, part):
                deployment.run.failures.setdefault(name, "still differs after the run: `paddock plan` shows how")
    reached = tuple(name for name in deployment.work if name not in deployment.failures)
    return Pushed(tuple(host.name for host in hosts), reached, deployment.failures)


def require_time(fleet: Fleet, state: FleetState, *, ask: Callable[[str], bool]) -> None:
    """Asks the hosts that carry certificates for their time, before something is signed that is not pushed. Raises PaddockError where they
    say another one."""
    if hosts := bearing(fleet):
        deployment = Deployment(fleet, state, hosts, ask=ask)
        with deployment.connected():
            deployment.ask_time()
            deployment.require_time()


def _unfinished(deployment: Deployment) -> list[str]:
    """The hosts whose plan has a certificate in it that is not there yet."""
    marker = TO_BE_ISSUED.encode()
    works = deployment.work.items()
    return [name for name, work in works if any(isinstance(each, File) and marker in each.data for each in work.resources)]


def _certificates(host: str, work: Work, *, of_clients: bool) -> Work:
    return certificates_alone(work, of_clients=of_clients)

"""What is verified, and the way to it: a host's plan, and a connection of the verification's own."""

from __future__ import annotations

import atexit
import inspect
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import testinfra

from control.context import context_for
from control.privilege import ANSWER, password_for
from control.secrets import Secrets, Vault
from control.state import FleetState
from inventory.schema import Fleet, Host
from roles.client.settings import ClientSettings
from roles.host_plan import HostPlan, host_plan
from tests.verify.outside import Outside

SOCKETS = TemporaryDirectory(prefix="paddock-")
"""Of this process alone: a connection of somebody else's may have been let in by another pinned key."""


@dataclass(frozen=True)
class Subject:
    """One host, its plan, and a testinfra connection to it. Where `deep`, models are read whole, instead of what was noted of them."""

    this: Host
    fleet: Fleet
    state: FleetState
    plan: HostPlan
    host: Any
    deep: bool = True

    def call(self, check: Callable[..., None], role: str) -> None:
        """Calls a role's check with those of its parameters that it names."""
        outside, settings = Outside(self.fleet, self.state), self.this.carried[role]
        if isinstance(settings, ClientSettings):  # who is thrown out has no seat
            seats = {account: seat for account, seat in settings.accounts.items() if seat.client in outside.clients}
            settings = settings.model_copy(update={"accounts": seats})
        offered = {"host": self.host, "this": self.this, "fleet": self.fleet, "settings": settings, "outside": outside}
        check(**{name: offered[name] for name in inspect.signature(check).parameters})


def subjects(fleet: Fleet, state: FleetState, names: Iterable[str], deep: bool = True) -> Iterator[Subject]:
    """Those of the fleet's hosts that are named, each as its plan has it now."""
    context = context_for(fleet, state, now=datetime.now(UTC))
    for name in names:
        this = fleet.hosts[name]
        yield Subject(this, fleet, state, host_plan(this, fleet, context), connected(this, state), deep)


def connected(this: Host, state: FleetState) -> Any:
    """A testinfra host over one shared SSH connection that accepts the pinned key only."""
    options = {
        "ControlMaster": "auto",
        "ControlPersist": "30",  # said here, since testinfra says it only where it chooses the master itself
        "ControlPath": f"{SOCKETS.name}/%C",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(state.known_hosts),
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    key = f"-i {Path(this.ssh_key).expanduser()} -o IdentitiesOnly=yes " if this.ssh_key else ""
    address = f"[{this.address}]" if ":" in this.address else this.address
    arguments = key + " ".join(f"-o {name}={value}" for name, value in options.items())
    host = testinfra.get_host(f"ssh://{this.user}@{address}:{this.port}", ssh_extra_args=arguments, sudo=this.becomes_root)
    password = password_for(this.name, Secrets(Vault(state))) if this.becomes_root else None
    return with_password(host, password) if password else host


def with_password(host: Any, password: str) -> Any:
    """The host with sudo's question answered by a program that only the account can read, and that goes with the session."""
    backend, command = host.backend, host.backend._build_ssh_command(f"/bin/sh -c {shlex.quote(ANSWER)}")
    asked = backend.quote(" ".join(command[0]), *command[1])
    made = subprocess.run(asked, shell=True, input=f"{password}\n", capture_output=True, text=True, check=True)  # noqa: S602 - it is testinfra's own line
    answer = made.stdout.strip()
    atexit.register(lambda: backend.run_ssh(f"rm -f {answer}"))
    backend.get_sudo_command = lambda command, user: backend.quote("SUDO_ASKPASS=%s sudo -A /bin/sh -c %s", answer, command)
    return host

"""What is verified, and the way to it: a host's plan as it is handed over, and a connection of the verification's own."""

from __future__ import annotations

import atexit
import inspect
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
import testinfra

from inventory.fleet import Fleet, Host
from resources.codec import Plan, read
from resources.disk import Sealed
from roles import checks_of
from verification.outside import Outside, Through
from verification.speeds import Speeds

SOCKETS = TemporaryDirectory(prefix="paddock-")
"""Of this process alone: a connection of somebody else's may have been let in by another pinned key."""

SHARED = (
    ("ControlMaster", "auto"),
    ("ControlPersist", "30"),  # said here, since testinfra says it only where it chooses the master itself
    ("ControlPath", f'"{SOCKETS.name.replace("%", "%%")}/%C"'),
)


@dataclass(frozen=True)
class VerifiedHost:
    """One host, its plan, and a testinfra connection to it. Where `deep`, models are read whole, instead of what was noted of them."""

    this: Host
    fleet: Fleet
    plan: Plan
    host: Any
    outside: Outside
    deep: bool = True
    speeds: Speeds = field(default_factory=Speeds)

    def call(self, check: Callable[..., None], role: str) -> None:
        """Calls a role's check with those of its parameters that it names."""
        settings = self.this.carried[role].verified(self.outside.clients)
        offered = {
            "host": self.host,
            "this": self.this,
            "fleet": self.fleet,
            "settings": settings,
            "plan": tuple(each for part in self.plan.values() for each in part),
            "outside": self.outside,
            "speeds": self.speeds,
        }
        check(**{name: offered[name] for name in inspect.signature(check).parameters})


def of(handed: Mapping[str, Any]) -> VerifiedHost:
    """The host that control/deployment/verification.py hands over: `fleet`, the `host`'s name, its `plan` with the digests of its secrets
    (`seals`), whether to look `deep`, the `connection`, who calls from `outside`, and `speeds`, what is known of them.
    """
    fleet = Fleet.model_validate(handed["fleet"])
    this, seals = fleet.hosts[handed["host"]], handed["seals"]
    plan = read(handed["plan"], lambda name: Sealed(seals[name]))
    outside = Outside.of(handed["outside"], _through(handed["connection"].get("through")))
    speeds = Speeds.of(handed["speeds"]) if "speeds" in handed else Speeds()
    return VerifiedHost(this, fleet, plan, connected(handed["connection"]), outside, handed["deep"], speeds)


class Parametrized:
    """A pytest plugin: a test for each resource of the host, and for each check of its roles."""

    def __init__(self, subject: VerifiedHost) -> None:
        self.subject = subject
        self.given = 0
        """How many checks there are."""
        self.done = 0
        """How many of them were carried out."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.done += report.when == "call"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        name = self.subject.this.name
        if "resource" in metafunc.fixturenames:
            resources = [each for part in self.subject.plan.values() for each in part]
            cases: list[tuple[object, ...]] = [(self.subject, each) for each in resources]
            self.given += len(cases)
            metafunc.parametrize("subject, resource", cases, ids=[f"{name}: {each.id}" for each in resources])
        elif "check" in metafunc.fixturenames:
            checks = [(role, check) for role in self.subject.plan for check in _checks(role)]
            cases = [(self.subject, role, check) for role, check in checks]
            self.given += len(cases)
            metafunc.parametrize("subject, role, check", cases, ids=[f"{name}: {role} {_words(check)}" for role, check in checks])


def _words(check: Callable[..., None]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def _checks(role: str) -> list[Callable[..., None]]:
    return [value for name, value in vars(checks_of(role)).items() if name.startswith("check_")]


def connected(connection: Mapping[str, Any]) -> Any:
    """A testinfra host over one shared SSH connection that accepts the pinned key only.

    `connection` has the `address` that ssh is given, its `options`, its `configuration` (`-F FILE`, or nothing), whether root needs `sudo`,
    and where sudo asks for a password `password` and `answer`, the script that keeps it.
    """
    given = [*connection["configuration"], *(f"-o{name}={value}" for name, value in [*SHARED, *connection["options"]])]
    address = quote(connection["address"], safe=":")
    where = f"[{address}]" if ":" in address else address
    host = testinfra.get_host(f"ssh://{where}", ssh_extra_args=shlex.join(given), sudo=connection["sudo"])
    return with_password(host, connection["password"], connection["answer"]) if connection.get("password") else host


def _through(through: Mapping[str, Any] | None) -> Through | None:
    """Whoever calls a host behind a bastion from outside calls from there."""
    if not through:
        return None
    ssh, *given = through["command"]
    return Through((ssh, *(f"-o{name}={value}" for name, value in SHARED), *given), through["bastion"])


def with_password(host: Any, password: str, script: str) -> Any:
    """The host with sudo's question answered by a process of the account, which goes with this one (see control/ssh/askpass.sh)."""
    backend, command = host.backend, host.backend._build_ssh_command(f"/bin/sh -c {shlex.quote(script)}")
    asked = backend.quote(" ".join(command[0]), *command[1])
    answering = subprocess.Popen(asked, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S602 - it is testinfra's own line
    assert answering.stdin and answering.stdout
    answering.stdin.write(f"{password}\n")
    answering.stdin.flush()
    answer = answering.stdout.readline().strip()
    if not answer:
        raise RuntimeError(f"{host.backend.host}: cannot hand sudo its password")
    atexit.register(answering.communicate)
    backend.get_sudo_command = lambda command, user: backend.quote("SUDO_ASKPASS=%s sudo -A /bin/sh -c %s", answer, command)
    return host

"""Nothing lets in again who was thrown out: no run that began before, no older copy of the state, here or on another machine."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.faults.tripwire import HOLD, Call, tripwire
from tests.lab_fleet import LabFleet, lab_fleet

NAME = "thrown"
SITE = "ai.home.example"
PACKAGES = Call("apt-get", "*install*")


@dataclass(frozen=True)
class Door:
    """`taken` is what the phone has taken away while it was let in; `other` is another machine's copy of inventory and state."""

    fleet: LabFleet
    taken: Path

    @property
    def container(self) -> str:
        return self.fleet.host("door").container

    def lets_in(self, client: str) -> bool:
        """Whether Caddy answers anything over HTTP; it ends the connection otherwise."""
        away = self.taken if client == "phone" else self.fleet.state / "export" / client
        context = ssl.create_default_context(cafile=str(self.taken / "ca.pem"))
        context.load_cert_chain(away / "cert.pem", away / "key.pem")
        address = self.fleet.host("door").address
        try:
            with socket.create_connection((address, 443), timeout=60) as plain, context.wrap_socket(plain, server_hostname=SITE) as stream:
                connection = http.client.HTTPConnection(SITE)
                connection.sock = stream
                connection.request("GET", "/health")
                return connection.getresponse().status == 502  # its server is never reached
        except (ssl.SSLError, ConnectionError, http.client.HTTPException):
            return False

    def said(self, *arguments: str, code: int = 0, fleet: LabFleet | None = None) -> str:
        done: CompletedProcess[str] = (fleet or self.fleet).paddock(*arguments)
        print(f"$ paddock {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, *arguments: str, code: int = 0, fleet: LabFleet | None = None) -> str:
        return self.said("up", "--lab", "--limit", "door", "--yes", "--no-verify", *arguments, code=code, fleet=fleet)

    def revoke(self) -> None:
        assert "in force on door" in self.said("certs", "revoke", "phone", "--lab")
        assert not self.lets_in("phone") and self.lets_in("laptop")

    def begin(self) -> None:
        """Both clients are let in."""
        self.fleet.write(inventory())
        self.up("--take-over")
        self.said("certs", "issue", "phone", "--lab", "--yes")
        shutil.rmtree(self.taken, ignore_errors=True)
        self.said("certs", "export", "phone", "--lab", "--to", str(self.taken))
        self.said("certs", "export", "laptop", "--lab")
        assert self.lets_in("phone") and self.lets_in("laptop")

    def leave_work(self, fleet: LabFleet, also: str = "true") -> None:
        """A package is to be installed, and what `also` spoils to be landed."""
        self.fleet.on("door", f"dpkg --purge hello >/dev/null 2>&1; {also}")
        fleet.write(inventory("hello"))


def inventory(*packages: str) -> str:
    roles = {"base": {"time": "elsewhere", "packages": list(packages)}, "caddy": {"sites": {SITE: {"upstream": "far"}}}}
    serving = {"llama_cpp": None, "models": None, "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo"]}}
    hosts = {"door": {"address": "192.0.2.10", "roles": roles}, "far": {"address": "192.0.2.99", "roles": serving}}
    clients = {"laptop": None, "phone": None}
    whole = {"fleet": NAME, "domain": "home.example", "networks": ["192.0.2.0/24"], "hosts": hosts, "models": {"demo": None}}
    return json.dumps({**whole, "clients": clients})


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    directory = tmp_path_factory.mktemp(NAME)
    with lab_fleet(NAME, directory, inventory()) as fleet:
        yield Door(fleet, directory / "taken")


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = run.communicate(timeout=300)
    print(said, flush=True)
    assert "Traceback" not in said
    return run.returncode, said


def test_a_run_that_began_before_a_revocation_lets_nobody_in_again(door: Door) -> None:
    door.begin()
    door.leave_work(door.fleet, "rm /etc/caddy/paddock/sites.caddy")
    with tripwire(door.container, PACKAGES, HOLD) as wire:
        run = door.fleet.start("up", "--lab", "--limit", "door", "--yes", "--no-verify")
        wire.tripped()
        door.revoke()
        wire.release()
        code, said = ended(run)
    assert code == 0, said
    assert not door.lets_in("phone") and door.lets_in("laptop")
    assert " 0 changed" in door.up()


def test_another_machines_run_that_began_before_is_refused_by_the_host(door: Door) -> None:
    door.begin()
    other = LabFleet(NAME, door.fleet.directory / "other")
    shutil.rmtree(other.directory, ignore_errors=True)
    shutil.copytree(door.fleet.state, other.state)
    door.leave_work(other)
    with tripwire(door.container, PACKAGES, HOLD) as wire:
        run = other.start("up", "--lab", "--limit", "door", "--yes", "--no-verify")
        wire.tripped()
        door.revoke()
        wire.release()
        code, said = ended(run)
    assert code == 1 and "door: another run has changed it meanwhile: was last changed with a newer copy of the state: of " in said, said
    assert not door.lets_in("phone") and door.lets_in("laptop")


def test_an_older_copy_is_refused_with_what_it_lacks_and_adopts_what_the_hosts_know(door: Door) -> None:
    door.begin()
    older = door.fleet.directory / "older"
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(door.fleet.state, older)
    door.revoke()
    shutil.rmtree(door.fleet.state)
    shutil.copytree(older, door.fleet.state)

    refused = door.up(code=1)
    assert "door: was last changed with a newer copy of the state: of " in refused
    assert " The state here lacks: client phone was revoked on 2" in refused
    assert "(`paddock state adopt` where it is lost)" in refused
    assert "  client phone was revoked on 2" in door.said("state", "adopt", "--lab", "--limit", "door", code=2)
    assert not door.lets_in("phone")

    assert "  client phone was revoked on 2" in door.said("state", "adopt", "--lab", "--limit", "door", "--yes")
    assert "no host that answered knows a newer state" in door.said("state", "adopt", "--lab", "--limit", "door", "--yes")
    door.fleet.on("door", "rm /etc/caddy/paddock/sites.caddy")
    door.up()
    assert not door.lets_in("phone")

"""A host that only its bastion reaches, with real sshds on both: deployed, verified and asked, by the inventory and by ~/.ssh/config."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.container import LabHost
from lab.engine import engine
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

NAME = "bastion"

ALONE = "ip route replace blackhole $(ip route show default | cut -d' ' -f3)"
"""This machine, which is the way out of a lab host: what is for it vanishes."""


class Hosts:
    """`gate` is reached from here, `ai` from gate only."""

    def __init__(self, lab: LabFleet) -> None:
        self.lab = lab
        self.gate, self.ai = (lab.host(name) for name in ("gate", "ai"))

    def describe(self, *, gate: dict[str, Any] | None = None, **ai: Any) -> None:
        """The inventory: ai through gate, and what a test says over it; a key of None is left out."""
        serving = {
            "llama_cpp": {},
            "models": {},
            "llama_server": {"models": ["demo"]},
            "caddy": {"sites": {"ai.home.example": {"upstream": "ai"}}},
        }
        base = {"base": {"time": "elsewhere"}}
        hosts = {
            "gate": {"address": self.gate.address, "ssh_key": str(self.gate.ssh_key), "roles": base, **(gate or {})},
            "ai": {"address": self.ai.address, "ssh_key": str(self.ai.ssh_key), "via": "gate", "roles": {**base, **serving}, **ai},
        }
        hosts = {name: {key: value for key, value in said.items() if value is not None} for name, said in hosts.items()}
        fleet = {"fleet": NAME, "domain": "home.example", "hosts": hosts, "models": {"demo": {}}, "clients": {"laptop": {}}}
        self.lab.write(json.dumps(fleet))  # JSON is YAML

    def up(self, *arguments: str) -> str:
        done = self.lab.paddock("up", "--yes", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up_fails(self, *arguments: str) -> str:
        done = self.lab.paddock("up", "--yes", *arguments)
        assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.stderr

    def inside(self, host: LabHost, script: str) -> str:
        """Past its network and its sshd."""
        command = [*engine().command, "exec", host.container, "sh", "-euc", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{host.name}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def logins(self, host: LabHost) -> list[str]:
        """Who has logged in, and from where: `root from 192.0.2.1`."""
        said = self.inside(host, "journalctl --sync; journalctl -q -o cat -u ssh")
        return re.findall(r"^Accepted publickey for (\S+ from \S+)", said, re.MULTILINE)

    @property
    def pins(self) -> dict[str, str]:
        lines = (self.lab.directory / ".paddock" / NAME / "known_hosts").read_text().splitlines()
        return {line.split()[3]: " ".join(line.split()[1:3]) for line in lines}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    bare = {name: {"address": f"192.0.2.{number}", "roles": {"base": {}}} for number, name in enumerate(("gate", "ai"), 1)}
    text = json.dumps({"fleet": NAME, "domain": "home.example", "hosts": bare})
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), text, ready=True) as lab:
        hosts = Hosts(lab)
        hosts.inside(hosts.ai, ALONE)
        hosts.describe()
        first = hosts.up("--accept-host-keys")
        assert "checks passed" in first and "FAILED" not in first
        yield hosts


@pytest.fixture(autouse=True)
def as_ever(hosts: Hosts) -> None:
    hosts.describe()
    hosts.lab.environment.clear()


def test_it_is_deployed_and_verified_through_the_bastion_alone(hosts: Hosts) -> None:
    """The fixture's `up` has verified it. What that asks from outside, it asks from the bastion."""
    from_here = {login for login in hosts.logins(hosts.gate) if not login.endswith(f" {hosts.ai.address}")}
    assert len(from_here) == 1
    assert set(hosts.logins(hosts.ai)) == {f"root from {hosts.gate.address}"}
    assert hosts.pins == {"gate": hosts.gate.host_key, "ai": hosts.ai.host_key}


def test_a_converged_run_logs_in_once_to_each(hosts: Hosts) -> None:
    before = {host.name: len(hosts.logins(host)) for host in (hosts.gate, hosts.ai)}
    assert re.search(r"^ai +0 changed", hosts.up("--limit", "ai"), re.MULTILINE)
    assert {host.name: len(hosts.logins(host)) - before[host.name] for host in (hosts.gate, hosts.ai)} == {"gate": 1, "ai": 1}


def test_its_servers_are_asked_through_the_bastion(hosts: Hosts) -> None:
    done = hosts.lab.paddock("models", "list")
    assert done.returncode == 0 and "demo" in done.stdout, done.stdout + done.stderr


def test_another_host_key_behind_the_bastion_stops_before_a_login(hosts: Hosts) -> None:
    before = len(hosts.logins(hosts.ai))
    hosts.inside(hosts.ai, "cd /etc/ssh; mkdir /root/keys; mv ssh_host_* /root/keys; ssh-keygen -q -A; systemctl restart ssh")
    try:
        said = hosts.up_fails("--limit", "ai")
    finally:
        hosts.inside(hosts.ai, "cd /etc/ssh; rm -f ssh_host_*; mv /root/keys/* .; rmdir /root/keys; systemctl restart ssh")
    assert f"ai: root@{hosts.ai.address}:22 does not present the pinned host key, so nothing was sent" in said
    assert len(hosts.logins(hosts.ai)) == before


def test_a_bastion_that_cannot_lead_there_is_told_in_words(hosts: Hosts) -> None:
    hosts.describe(port=2222)
    assert f"ai: root@{hosts.ai.address}:2222 cannot be reached: gate, its bastion, cannot reach it" in hosts.up_fails("--limit", "ai")
    hosts.describe()
    hosts.inside(hosts.gate, "echo 'AllowTcpForwarding no' >/etc/ssh/sshd_config.d/no.conf; systemctl reload ssh")
    try:
        said = hosts.up_fails("--limit", "ai")
    finally:
        hosts.inside(hosts.gate, "rm /etc/ssh/sshd_config.d/no.conf; systemctl reload ssh")
    assert "gate, its bastion, forwards nothing: allow it there with `AllowTcpForwarding local`" in said
    hosts.describe(gate={"port": 2222})
    where = f"root@{hosts.gate.address}:2222"
    assert f"ai: the way there ends at {where}: {where} cannot be reached: Connection refused" in hosts.up_fails("--limit", "ai")


# By ~/.ssh/config


def configured(hosts: Hosts, text: str) -> None:
    path = hosts.lab.directory / "ssh_config"
    path.write_text(text.format(gate=hosts.gate.address, ai=hosts.ai.address, key=hosts.ai.ssh_key, here=hosts.lab.directory))
    hosts.lab.environment["PADDOCK_SSH_CONFIG"] = str(path)


JUMP = """
Host {ai}
  User root
  ProxyJump deputy@{gate}
Host *
  IdentityFile {key}
  IdentitiesOnly yes
"""

COMMAND = """
Host {ai}
  ProxyCommand ssh -F {here}/ssh_config -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={here}/own -W %h:%p root@{gate}
Host *
  IdentityFile {key}
  IdentitiesOnly yes
"""


def test_proxyjump_user_and_identityfile_of_ssh_config_lead_there(hosts: Hosts) -> None:
    hosts.inside(
        hosts.gate,
        """id deputy 2>/dev/null || useradd -m deputy; install -d -m 700 -o deputy /home/deputy/.ssh
        install -m 600 -o deputy /root/.ssh/authorized_keys /home/deputy/.ssh/""",
    )
    configured(hosts, JUMP)
    hosts.describe(via=None, ssh_key=None)
    assert "not accepted" in hosts.up_fails("--limit", "ai"), "as deputy nobody has met gate"
    assert re.search(r"^ai +0 changed", hosts.up("--limit", "ai", "--accept-host-keys"), re.MULTILINE)
    assert any(login.startswith("deputy from ") for login in hosts.logins(hosts.gate))
    assert hosts.pins[f"[{hosts.gate.address}]:22"] == hosts.gate.host_key
    done = hosts.lab.paddock("verify", "--limit", "ai")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_proxycommand_of_ssh_config_leads_there(hosts: Hosts) -> None:
    configured(hosts, COMMAND)
    hosts.describe(via=None, ssh_key=None)
    assert re.search(r"^ai +0 changed", hosts.up("--limit", "ai"), re.MULTILINE)
    done = hosts.lab.paddock("status", "--limit", "ai")
    assert done.returncode == 0, done.stdout + done.stderr


# Keys


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class Token:
    """An SSH agent that holds a key as a FIDO token has it (OpenSSH: PROTOCOL.u2f), and is touched whenever it is asked."""

    KIND, APPLICATION = b"sk-ssh-ed25519@openssh.com", b"ssh:"

    def __init__(self) -> None:
        self.key, self.asked = Ed25519PrivateKey.generate(), 0
        self.blob = text(self.KIND) + text(self.key.public_key().public_bytes_raw()) + text(self.APPLICATION)

    @property
    def line(self) -> str:
        return f"{self.KIND.decode()} {b64encode(self.blob).decode()} token"

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            threading.Thread(target=self._serve, args=(listening,), daemon=True).start()
            yield

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as received:
            while head := received.read(4):
                message = received.read(struct.unpack(">I", head)[0])
                connection.sendall(text(self._said(message)))

    def _said(self, message: bytes) -> bytes:
        if message[:1] == b"\x0b":  # SSH_AGENTC_REQUEST_IDENTITIES
            return b"\x0c" + struct.pack(">I", 1) + text(self.blob) + text(b"token")
        if message[:1] != b"\x0d":  # SSH_AGENTC_SIGN_REQUEST
            return b"\x05"
        size = struct.unpack(">I", message[1:5])[0]
        assert message[5 : 5 + size] == self.blob
        data = message[9 + size : 9 + size + struct.unpack(">I", message[5 + size : 9 + size])[0]]
        self.asked += 1
        tail = b"\x01" + struct.pack(">I", self.asked)  # somebody was there, and how often
        signed = hashlib.sha256(self.APPLICATION).digest() + tail + hashlib.sha256(data).digest()
        return b"\x0e" + text(text(self.KIND) + text(self.key.sign(signed)) + tail)


def test_a_key_of_a_fido_token_in_the_agent_opens_the_bastion_and_the_host(hosts: Hosts, tmp_path: Path) -> None:
    token = Token()
    hosts.lab.environment |= {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "HOME": str(tmp_path), "PADDOCK_SSH_CONFIG": "none"}
    hosts.lab.environment["PADDOCK_AGE_IDENTITY"] = os.environ.get("PADDOCK_AGE_IDENTITY") or str(
        Path("~/.config/paddock/identity.txt").expanduser()
    )
    hosts.describe(gate={"ssh_key": None}, ssh_key=None)
    with token.at(tmp_path / "agent"):
        for host in (hosts.gate, hosts.ai):
            hosts.inside(host, f"cp /root/.ssh/authorized_keys /root/.ssh/before; echo '{token.line}' >/root/.ssh/authorized_keys")
        try:
            assert re.search(r"^ai +0 changed", hosts.up("--limit", "ai"), re.MULTILINE)
            assert token.asked == 2, "once for each machine"
            done = hosts.lab.paddock("verify", "--limit", "gate")
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            for host in (hosts.gate, hosts.ai):
                hosts.inside(host, "mv /root/.ssh/before /root/.ssh/authorized_keys")
    assert b64decode(token.line.split()[1]) == token.blob


def test_a_bastion_at_an_address_of_the_link_is_reached_by_its_interface(hosts: Hosts) -> None:
    hosts.inside(hosts.gate, "sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=0; ip -6 addr replace fe80::1234/64 dev eth0 nodad")
    bridge = subprocess.run(["ip", "route", "get", hosts.gate.address], capture_output=True, text=True, check=True).stdout
    interface = re.search(r" dev (\S+)", bridge)
    assert interface
    hosts.describe(gate={"address": f"fe80::1234%{interface[1]}"})
    assert re.search(r"^ai +0 changed", hosts.up("--limit", "ai"), re.MULTILINE)
    assert any("fe80::" in login for login in hosts.logins(hosts.gate))
    done = hosts.lab.paddock("verify", "--limit", "gate")
    assert done.returncode == 0, done.stdout + done.stderr

"""The story: the demo's fleet with a second host, deployed once for all tests here, and watched from outside while it first comes up.

Each test says what inventory it begins from: they can run alone and in any order.
"""

from __future__ import annotations

import base64
import copy
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from snapshot import Snapshot, inside, snapshot
from watch import PortWatch

from lab import hosts as lab_hosts
from lab.container import LabHost
from tests.lab_fleet import ROOT, LabFleet, lab_fleet

Inventory = dict[str, Any]

DEMO = ROOT / "inventory" / "demo.yml"

CADDYFILE = "http://:8081 {\n\trespond `somebody else's`\n}"
"""Its last line has no end, as some editors leave it."""

BY_HAND = {
    "ai": [
        (
            "/etc/systemd/system/llama-server.service",
            "[Service]\nExecStart=sleep inf\n[Install]\nWantedBy=multi-user.target\n",
            "root:adm",
            "640",
        )
    ],
    "door": [
        ("/etc/caddy/Caddyfile", CADDYFILE, "root:caddy", "640"),
        ("/etc/systemd/system/caddy.service.d/40-restart.conf", "[Service]\n# my own\nRestartSec=7\n", "root:adm", "604"),
    ],
}
"""What lies on the hosts before Paddock ever comes, at the very places that it writes to: path, text, owner, mode."""


@dataclass
class Story:
    """`ai` carries the whole demo, `door` a Caddy of somebody else's. `before` is each host before Paddock, `first` the first `up`."""

    fleet: LabFleet
    hosts: Mapping[str, LabHost]
    before: Mapping[str, Snapshot]
    watched: Mapping[str, PortWatch]
    first: subprocess.CompletedProcess[str]

    def write(self, inventory: Inventory) -> None:
        self.fleet.write(yaml.safe_dump(inventory, sort_keys=False))

    def begin(self, alter: Callable[[Inventory], object] = lambda inventory: None) -> Inventory:
        """Brings the hosts to the story's beginning, or to an altered one, and gives the inventory."""
        inventory = copy.deepcopy(BEGINNING)
        alter(inventory)
        self.write(inventory)
        self.fleet.up("--no-verify")
        return inventory

    def address(self, host: str) -> str:
        return self.hosts[host].address

    def inside(self, host: str, script: str) -> str:
        return inside(self.hosts[host].container, script)

    def snapshot(self, host: str) -> Snapshot:
        return snapshot(self.hosts[host].container)

    def plan(self) -> str:
        """What `paddock plan` prints."""
        planned = self.fleet.paddock("plan", "--lab")
        assert planned.returncode in (0, 3), planned.stdout + planned.stderr
        return planned.stdout

    @property
    def laptop(self) -> tuple[Path, Path]:
        """The certificate and the key of the fleet's client."""
        return self.fleet.state / "export/laptop/cert.pem", self.fleet.state / "export/laptop/key.pem"

    @property
    def ca(self) -> Path:
        return self.fleet.state / "export/laptop/ca.pem"

    def ask(self, site: str, model: str, *, at: str, certificate: tuple[Path, Path] | None) -> subprocess.CompletedProcess[str]:
        """A completion, asked of a site as a person would, with curl, and with a certificate and its key or without."""
        command = ["curl", "-sS", "--max-time", "60", "--resolve", f"{site}:443:{self.address(at)}", "--cacert", str(self.ca)]
        command += ["--cert", str(certificate[0]), "--key", str(certificate[1])] if certificate else []
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}], "max_tokens": 8}}'
        command += [f"https://{site}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
        return subprocess.run(command, capture_output=True, text=True)


def _beginning() -> Inventory:
    """The demo, with a host `door` that carries nothing but the base."""
    inventory: Inventory = yaml.safe_load(DEMO.read_text())
    inventory["fleet"] = "story"
    inventory["hosts"]["door"] = {"address": "192.0.2.11", "roles": {"base": {}}}
    return inventory


BEGINNING = _beginning()


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    lab_hosts.down("story")  # those of an earlier run are not fresh any more
    with lab_fleet("story", tmp_path_factory.mktemp("story"), yaml.safe_dump(BEGINNING, sort_keys=False)) as fleet:
        hosts = {host: fleet.host(host) for host in BEGINNING["hosts"]}
        _prepare({name: host.container for name, host in hosts.items()})
        before = {name: snapshot(host.container) for name, host in hosts.items()}
        print("story: the first up", flush=True)
        with ExitStack() as stack:
            watched = {name: stack.enter_context(PortWatch(host.container, host.address)) for name, host in hosts.items()}
            first = fleet.up()
        print(first.stdout, flush=True)
        yield Story(fleet, hosts, before, watched, first)


def _prepare(containers: Mapping[str, str]) -> None:
    """What stands on the hosts before Paddock comes; and sshd tells of every connection and every command."""
    for container in containers.values():
        inside(container, "echo LogLevel VERBOSE >/etc/ssh/sshd_config.d/00-told.conf; systemctl reload ssh")
    inside(containers["door"], "apt-get -qq update && apt-get -qq -y install --no-install-recommends caddy >/dev/null 2>&1")
    for name, files in BY_HAND.items():
        for path, text, owner, mode in files:
            encoded = base64.b64encode(text.encode()).decode()
            inside(
                containers[name],
                f"mkdir -p {Path(path).parent}; echo {encoded} | base64 -d >{path}; chown {owner} {path}; chmod {mode} {path}",
            )
    inside(containers["ai"], "systemctl daemon-reload; systemctl --quiet enable --now llama-server")
    inside(containers["door"], "systemctl daemon-reload; systemctl restart caddy")

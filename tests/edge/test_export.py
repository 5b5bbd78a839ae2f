"""The archive for a machine that Paddock does not manage: unpacked there it installs without root, works, and takes back what it did."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=5)

INVENTORY = """
fleet: span
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {models: [story], api_key: true, preset: {ctx-size: 8192}}
      caddy: {sites: {ai.home.example: {upstream: ai}}}
  away:
    address: 192.0.2.11
    roles: {base: {time: elsewhere}}
models: {story: {}}
clients: {laptop: {}, phone: {}}
"""

PREPARE = """
useradd --create-home carol; loginctl enable-linger carol
systemctl mask --quiet caddy
apt-get -qq update && apt-get -qq -y install --no-install-recommends caddy libnss3-tools openssl >/dev/null 2>&1
runuser -u carol -- sh -c 'cd; mkdir -p .pi/agent/certs; echo mine >.pi/agent/certs/client.pem; chmod 640 .pi/agent/certs/client.pem'
until [ -S /run/user/$(id -u carol)/systemd/private ]; do sleep 0.2; done
"""
"""A machine as somebody may have it: with Caddy, with the tools of browsers, and with a file where one of ours is to lie."""

HOME = "find . -printf '%y %m %l %P\\n' | sort; find . -type f -exec sha256sum {} + | sort"
INSTALL = "sh /var/tmp/paddock-laptop/install.sh"
BODY = '{"model": "story", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}'
BRIDGED = f"""
. ~/.config/paddock/bridge.env
printf 'header = "Authorization: Bearer %s"\\n' "$OPENAI_API_KEY" |
  curl -sS -K - -H 'Content-Type: application/json' -d {shlex.quote(BODY)} "$OPENAI_BASE_URL/chat/completions"
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("span")
    with lab_fleet("span", tmp_path_factory.mktemp("span"), INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        fleet.on("away", PREPARE)
        yield fleet


@pytest.fixture(scope="module")
def archive(fleet: LabFleet) -> Path:
    file = fleet.directory / "laptop.tar.gz"
    made = fleet.paddock("certs", "export", "--lab", "laptop", "--archive", str(file))
    assert made.returncode == 0, made.stdout + made.stderr
    return file


@pytest.fixture(scope="module")
def before(fleet: LabFleet) -> str:
    """Carol's home before anything is installed, to the letter."""
    return as_carol(fleet, HOME)


@pytest.fixture(scope="module")
def installed(fleet: LabFleet, archive: Path, before: str) -> str:
    """What the script says when carol first runs it."""
    text = base64.b64encode(archive.read_bytes()).decode()
    as_carol(fleet, f"echo {text} | base64 -d | tar -xzf - -C /var/tmp")
    return as_carol(fleet, f"{INSTALL} 2>&1")


def as_carol(fleet: LabFleet, script: str) -> str:
    environment = "HOME=/home/carol XDG_RUNTIME_DIR=/run/user/$(id -u carol)"
    return fleet.on("away", f"cd /home/carol && runuser -u carol -- env {environment} sh -c {shlex.quote(script)}")


def test_the_archive_is_its_owners_to_read(archive: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600


def test_the_certificates_lie_where_pi_looks_and_open_the_site(fleet: LabFleet, installed: str) -> None:
    files = "--cacert root-ca.pem --cert client.pem --key client-key.pem"
    resolve = f"--resolve ai.home.example:443:{fleet.host('ai').address}"
    asked = f"cd ~/.pi/agent/certs; curl -sS -o /dev/null -w '%{{http_code}}' {files} {resolve} https://ai.home.example/health"
    assert as_carol(fleet, asked) == "200"
    assert as_carol(fleet, "stat -L -c %a ~/.pi/agent/certs/client-key.pem").strip() == "600"


def test_the_bridge_answers_who_knows_its_key(fleet: LabFleet, installed: str) -> None:
    assert "bridge: http://127.0.0.1:8399" in installed
    assert '"choices"' in as_carol(fleet, BRIDGED)
    assert fleet.on("away", "curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8399/v1/models") == "401"


def test_a_browsers_database_has_the_certificate(fleet: LabFleet, installed: str) -> None:
    listed = as_carol(fleet, "certutil -L -d sql:$HOME/.pki/nssdb")
    assert "laptop " in listed and " u,u,u" in listed


def test_another_run_changes_nothing_and_keeps_the_bridges_key(fleet: LabFleet, installed: str) -> None:
    key = as_carol(fleet, "cat .config/paddock/bridge.key")
    files = as_carol(fleet, "cd .local/share/paddock && find . -printf '%y %m %P\\n' | sort")
    as_carol(fleet, INSTALL)
    assert as_carol(fleet, "cat .config/paddock/bridge.key") == key
    assert as_carol(fleet, "cd .local/share/paddock && find . -printf '%y %m %P\\n' | sort") == files
    assert '"choices"' in as_carol(fleet, BRIDGED)


def test_root_is_told_to_be_somebody_else(fleet: LabFleet, installed: str) -> None:
    refused = fleet.on("away", f"HOME=/root {INSTALL} 2>&1 && echo done", check=False)
    assert refused == "run this as the account that is to use the certificate, not as root\n"


def test_removed_the_home_is_as_it_was_to_the_letter(fleet: LabFleet, installed: str, before: str) -> None:
    as_carol(fleet, "sh .local/share/paddock/client/install.sh --remove")
    assert as_carol(fleet, HOME) == before
    assert fleet.on("away", "ss -Hltn 'sport = :8399'") == ""

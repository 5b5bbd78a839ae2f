"""A Caddyfile that is somebody else's too is never written over, and what does not fit beside it is told before anything changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from edge_fleet import VERSIONS, Door

from tests.lab_fleet import LabFleet
from tests.share import turn

pytestmark = turn(2, of=5)

CADDYFILE = "/etc/caddy/Caddyfile"
IMPORT = "import /etc/caddy/paddock/*.caddy"
THEIRS = "{\n\temail them@home.example\n}\n\nhttp://:8081 {\n\troot * /home/them/www\n\trespond theirs\n}\n"


@pytest.fixture
def door(edge: LabFleet) -> Iterator[Door]:
    before = edge.inventory.read_text()
    edge.on(
        "new", f"cp -a {CADDYFILE} /root/Caddyfile; printf '%s' '{THEIRS}{IMPORT}\n' >{CADDYFILE}; rm -f /run/paddock/caddy.service.loaded"
    )
    yield Door.of(edge, "new")
    edge.write(before)
    edge.on("new", f"cp -a /root/Caddyfile {CADDYFILE}")
    edge.up("--no-verify")


def shared(edge: LabFleet, **settings: bool) -> str:
    inventory = yaml.safe_load(edge.inventory.read_text())
    inventory["hosts"]["new"]["roles"]["caddy"] |= {"shared": True, **settings}
    return yaml.safe_dump(inventory)


def test_a_caddyfile_with_options_of_its_own_needs_a_word_and_until_then_the_old_configuration_serves(edge: LabFleet, door: Door) -> None:
    process = edge.on("new", "systemctl show -P MainPID caddy")
    failed = edge.paddock("up", "--lab", "--yes")
    assert failed.returncode == 1
    assert "new: its Caddyfile has other sites or options: set roles.caddy.shared: true" in failed.stderr
    assert edge.on("new", "systemctl show -P MainPID caddy") == process
    assert door.ask("GET", "/health", door.context(VERSIONS[1], door.identity("laptop")))[0] == 200

    edge.write(shared(edge))
    edge.up()
    assert door.ask("GET", "/health", door.context(VERSIONS[1], door.identity("laptop")))[0] == 200
    assert edge.on("new", "curl -sS http://127.0.0.1:8081/") == "theirs"
    assert edge.on("new", f"cat {CADDYFILE}") == f"{THEIRS}{IMPORT}\n"
    assert "0 changed" in edge.up("--no-verify").stdout

    planned = edge.paddock("plan", "--lab", "--limit", "new").stdout
    assert "Caddy runs without a sandbox: sandbox: true adds one, and would hide /home/them/www from Caddy" in planned
    assert "a TLS connection that names no site needs no client certificate: catch_all: true ends it" in planned
    edge.write(shared(edge, catch_all=True, sandbox=True))
    edge.up("--no-verify")
    assert door.ask("GET", "/health", door.context(VERSIONS[1], door.identity("laptop")))[0] == 200
    assert edge.on("new", "curl -sS http://127.0.0.1:8081/") == "theirs"
    assert "0 changed" in edge.up("--no-verify").stdout
    assert edge.on("new", "systemd-analyze security --no-pager --threshold=20 caddy.service >/dev/null && echo low") == "low\n"
    edge.on("new", "systemctl reload caddy")

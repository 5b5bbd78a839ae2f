"""A site whose certificate comes over ACME, from an authority of somebody's own: Debian's pebble. Its clients are the fleet's as ever."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from edge_fleet import VERSIONS, Door

from control.pki import certificates
from tests.lab_fleet import LabFleet
from tests.share import turn

pytestmark = turn(3, of=5)

SITE = "ai.example.org"
"""In nobody's domain: the fleet's CA could not sign for it."""

OTHER = "other.example.org"

PEBBLE = {
    "listenAddress": "127.0.0.1:14000",
    "managementListenAddress": "127.0.0.1:15000",
    "certificate": "/root/pebble/cert.pem",
    "privateKey": "/root/pebble/key.pem",
    "httpPort": 80,
    "tlsPort": 443,
}


@pytest.fixture(scope="module")
def door(edge: LabFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    before = edge.inventory.read_text()
    root = _pebble(edge, tmp_path_factory.mktemp("pebble"))
    (edge.directory / "acme.pem").write_text(root)
    _add(edge, SITE)
    edge.up()
    yield Door(edge, "new", edge.host("new").address, SITE, root)
    edge.write(before)
    edge.up()


def test_the_site_shows_a_certificate_of_that_authority_and_the_fleet_issued_none(edge: LabFleet, door: Door) -> None:
    connection = door.connect(door.context(VERSIONS[1], door.identity("laptop")))
    shown = connection.sock.getpeercert()
    connection.close()
    assert ("DNS", SITE) in shown["subjectAltName"]
    assert "Pebble" in str(shown["issuer"])
    assert not [path for path in edge.state.rglob("*") if SITE in path.name]
    assert f"server {SITE}" not in edge.paddock("certs", "list", "--lab").stdout


def test_clients_of_the_fleet_are_let_in_and_nobody_else(door: Door) -> None:
    for version in VERSIONS:
        assert door.ask("GET", "/health", door.context(version, door.identity("laptop")))[0] == 200
        assert door.is_refused(door.context(version, None))


def test_a_challenge_opens_the_door_to_nobody(door: Door) -> None:
    """What an authority asks in the handshake is answered without a client certificate, and nothing else is."""
    knowledge = door.context(VERSIONS[1], None)
    knowledge.check_hostname, knowledge.verify_mode = False, ssl.CERT_NONE
    knowledge.set_alpn_protocols(["acme-tls/1"])
    assert door.is_refused(knowledge)


def test_an_authority_whose_root_is_not_there_is_told_before_anything_is_touched(edge: LabFleet, door: Door) -> None:
    root = edge.directory / "acme.pem"
    kept = root.rename(edge.directory / "aside.pem")
    try:
        told = edge.paddock("plan", "--lab")
    finally:
        kept.rename(root)
    assert told.returncode == 2
    assert f"sites.{SITE}.acme.root: there is no file {root} on this machine" in told.stderr


def test_with_port_80_closed_the_authority_asks_in_the_handshake(edge: LabFleet, door: Door) -> None:
    """Where clients need a certificate, and the authority has none to show."""
    _add(edge, OTHER, redirect=False)
    edge.up()
    other = Door(edge, "new", door.address, OTHER, door.root)
    assert other.ask("GET", "/health", other.context(VERSIONS[1], other.identity("laptop")))[0] == 200
    assert other.is_refused(other.context(VERSIONS[1], None))


def _add(edge: LabFleet, site: str, **settings: bool) -> None:
    inventory = yaml.safe_load(edge.inventory.read_text())
    caddy = inventory["hosts"]["new"]["roles"]["caddy"]
    acme = {"email": "me@example.org", "directory": "https://localhost:14000/dir", "root": "acme.pem"}
    caddy["sites"][site] = {"upstream": "old", "acme": acme}
    caddy.update(settings)
    edge.write(yaml.safe_dump(inventory))


def _pebble(edge: LabFleet, scratch: Path) -> str:
    """Pebble runs on the host `new`; gives who signs for its own web server, and the root under which it issues."""
    key, server_key, now = certificates.new_key(), certificates.new_key(), datetime.now(UTC)
    ca = certificates.make_ca(key, "pebble", "localhost", (), now)
    server = certificates.sign(ca, key, "server", server_key, "localhost", ("localhost",), (), now, now + timedelta(days=30))
    files = {"cert.pem": server, "key.pem": server_key, "config.json": json.dumps({"pebble": PEBBLE})}
    script = ["apt-get -qq update >/dev/null; apt-get -qq -y install --no-install-recommends pebble >/dev/null 2>&1; mkdir -p /root/pebble"]
    script += [f"cat >/root/pebble/{name} <<'END'\n{text}\nEND" for name, text in files.items()]
    script += [f"grep -q {OTHER} /etc/hosts || echo 127.0.0.1 {SITE} {OTHER} >>/etc/hosts", "systemctl stop pebble 2>/dev/null || true"]
    script += ["rm -rf /var/lib/caddy/.local/share/caddy"]  # of an authority that is no more
    script += ["systemd-run -q --unit=pebble -E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 pebble -config /root/pebble/config.json"]
    script += ["for each in $(seq 100); do curl -fsk https://localhost:15000/roots/0 && exit; sleep 0.2; done; exit 1"]
    return ca + edge.on("new", "\n".join(script))

"""Who is refused at the door, by Debian's Caddy and by a newer one, with TLS 1.2 and 1.3; and who is let in."""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edge_fleet import HOSTS, VERSIONS, Door

from control.pki import certificates
from tests.lab_fleet import LabFleet

doors = pytest.mark.parametrize("host", HOSTS)
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


def test_the_hosts_have_the_two_versions(edge: LabFleet) -> None:
    assert edge.on("old", "dpkg-query -W -f '${Version}' caddy").startswith("2.6.2")
    assert not edge.on("new", "dpkg-query -W -f '${Version}' caddy").startswith("2.6.2")
    assert "trusted_ca_cert_file" in edge.on("old", "cat /etc/caddy/paddock/sites.caddy")
    assert "trust_pool" in edge.on("new", "cat /etc/caddy/paddock/sites.caddy")


@doors
@versions
def test_a_client_is_answered_and_so_is_one_that_resumes_its_session(edge: LabFleet, host: str, version: ssl.TLSVersion) -> None:
    door = Door.of(edge, host)
    knowledge = door.context(version, door.identity("laptop"))
    first, session = door.get("/health", knowledge)
    again, _ = door.get("/health", knowledge, session)
    assert (first, again) == (200, 200)
    assert session is not None


@doors
@versions
@pytest.mark.parametrize("kind", ["none", "another CA", "expired", "not yet valid", "of a server"])
def test_whoever_is_no_client_is_refused(edge: LabFleet, tmp_path: Path, kind: str, host: str, version: ssl.TLSVersion) -> None:
    door = Door.of(edge, host)
    assert door.is_refused(door.context(version, _identity(kind, door, tmp_path)))


@doors
def test_one_that_is_made_by_the_fleets_ca_and_is_on_no_list_is_refused(edge: LabFleet, tmp_path: Path, host: str) -> None:
    door = Door.of(edge, host)
    assert door.is_refused(door.context(VERSIONS[1], _identity("laptop", door, tmp_path)))


NAMELESS = ["", "{address}", "127.0.0.1", "2001:db8::10", "[2001:db8::10]", "unknown.home.example", "home.example", "localhost"]
"""What a handshake may say in place of a site's name (SNI), nothing at all first."""


def handshake(door: Door, version: ssl.TLSVersion, name: str, *arguments: str) -> str:
    """All that openssl says of a handshake with this name, and of what is answered to a request in it."""
    named = ["-servername", name.format(address=door.address)] if name else ["-noservername"]
    command = ["openssl", "s_client", "-connect", f"{door.address}:443", f"-{version.name.lower().replace('tlsv', 'tls')}", "-ign_eof"]
    request = f"GET /v1/models HTTP/1.1\r\nHost: {door.site}\r\nConnection: close\r\n\r\n"
    done = subprocess.run([*command, *named, *arguments], input=request, capture_output=True, text=True, timeout=60, errors="replace")
    return done.stdout + done.stderr


@doors
@versions
@pytest.mark.parametrize("name", NAMELESS)
@pytest.mark.parametrize("client", ["", "laptop"])
def test_whoever_names_no_site_sees_no_certificate_and_gets_no_answer(
    edge: LabFleet, name: str, client: str, host: str, version: ssl.TLSVersion
) -> None:
    door = Door.of(edge, host)
    said = handshake(door, version, name, *_as_client(door.identity(client) if client else None))
    assert "no peer certificate available" in said and "HTTP/" not in said
    assert not [host for host in HOSTS if f"{host}.home.example" in said]


@doors
@versions
def test_nor_does_a_client_whose_library_sends_no_name(edge: LabFleet, host: str, version: ssl.TLSVersion) -> None:
    door = Door.of(edge, host)
    context = door.context(version, None)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((door.address, 443), timeout=60) as stream, pytest.raises(ssl.SSLError):
        context.wrap_socket(stream)


@doors
def test_where_a_certificate_stands_for_the_address_a_clients_is_asked_for_all_the_same(edge: LabFleet, tmp_path: Path, host: str) -> None:
    """No certificate that Paddock makes does. One that somebody has put there may."""
    door = Door.of(edge, host)
    key, now = certificates.new_key(), datetime.now(UTC)
    ca, ca_key = door.authority()
    names = ((door.site,), (door.address,), now - timedelta(minutes=5), now + timedelta(days=1))
    texts = {"pem": certificates.sign(ca, ca_key, "server", key, door.site, *names), "key": key}
    files = f"/etc/caddy/paddock/{door.site}"
    try:
        for kind, text in texts.items():
            edge.on(host, f"cp -p {files}.{kind} /root/kept.{kind}; echo {shlex.quote(text)} >{files}.{kind}")
        edge.on(host, "systemctl restart caddy")
        for version in VERSIONS:
            for name in ("", "{address}"):
                for identity in (None, _identity("another CA", door, tmp_path)):
                    said = handshake(door, version, name, *_as_client(identity))
                    assert "no peer certificate available" not in said and "alert" in said and "HTTP/" not in said
                # One that is listed is let in, and then not served.
                assert "endless" not in handshake(door, version, name, *_as_client(door.identity("laptop")))
    finally:
        edge.on(host, f"for kind in pem key; do cp -p /root/kept.$kind {files}.$kind; done; systemctl restart caddy")


@doors
def test_clear_text_is_refused_at_the_door_and_sent_on_from_port_80(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    for port, status in ((443, b"HTTP/1.0 400"), (80, b"HTTP/1.1 308")):
        with socket.create_connection((door.address, port), timeout=60) as plain:
            plain.sendall(f"GET /v1/models HTTP/1.1\r\nHost: {door.site}\r\nConnection: close\r\n\r\n".encode())
            answer = plain.makefile("rb").read()
        assert answer.startswith(status), answer
        assert b"endless" not in answer


@doors
def test_tls_older_than_1_2_is_refused(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    knowledge = door.context(VERSIONS[0], door.identity("laptop"))
    knowledge.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        knowledge.minimum_version = knowledge.maximum_version = ssl.TLSVersion.TLSv1_1
    assert door.is_refused(knowledge)


@doors
def test_a_page_of_another_origin_and_another_sites_name_get_nothing(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    knowledge = door.context(VERSIONS[1], door.identity("laptop"))
    assert door.ask("GET", "/health", knowledge, {"Origin": "https://elsewhere.example"})[0] == 403
    assert door.ask("GET", "/health", knowledge, {"Origin": f"https://{door.site}"})[0] == 200
    assert door.ask("GET", "/health", knowledge, {"Host": "other.home.example"})[0] == 421


@doors
def test_a_request_with_an_image_gets_through_and_one_over_the_limit_does_not(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    knowledge = door.context(VERSIONS[1], door.identity("laptop"))
    for size, statuses in ((3 << 20, {200}), (9 << 20, {413, 502})):
        body = json.dumps({"model": "endless", "content": "x", "padding": "y" * size}).encode()
        status, _ = door.ask("POST", "/tokenize", knowledge, {"Content-Type": "application/json"}, body)
        assert status in statuses


@doors
def test_only_an_administrator_reaches_the_admin_endpoint_and_under_its_own_name(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    forged = {"X-Paddock-Client": "laptop", "Authorization": "Bearer sk-forged"}
    answers = {}
    for name in ("laptop", "phone"):
        answers[name] = door.ask("GET", "/paddock/admin/preset", door.context(VERSIONS[1], door.identity(name)), forged)
    assert answers["laptop"][0] == 200 and b"[endless]" in answers["laptop"][1]
    assert answers["phone"][0] == 403 and json.loads(answers["phone"][1])["error"]["message"]
    key = edge.paddock("secrets", "show", "--lab", "admin.old").stdout.strip()
    assert key and key not in edge.on(host, "journalctl -o cat; cat /proc/*/cmdline | tr '\\0' ' '; cat /etc/caddy/paddock/sites.caddy")


@doors
def test_the_log_says_who_called_and_no_secret(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    knowledge = door.context(VERSIONS[1], door.identity("laptop"))
    hidden = {"Authorization": "Bearer SECRET-1", "Cookie": "session=SECRET-2", "X-Api-Key": "SECRET-3"}
    path = f"/{uuid.uuid4()}"
    door.ask("GET", f"{path}?api_key=SECRET-4", knowledge, hidden)
    log = edge.on(host, "journalctl --sync; journalctl -u caddy -o cat")
    (line,) = [json.loads(each) for each in log.splitlines() if path in each and '"handled request"' in each]
    assert line["request"]["tls"]["client_common_name"] == "laptop"
    assert "SECRET" not in log


def _as_client(identity: tuple[Path, Path] | None) -> tuple[str, ...]:
    return ("-cert", str(identity[0]), "-key", str(identity[1])) if identity else ()


def _identity(kind: str, door: Door, scratch: Path) -> tuple[Path, Path] | None:
    """A client certificate with its key that is right but for what is said."""
    if kind == "none":
        return None
    key, now, year = certificates.new_key(), datetime.now(UTC), timedelta(days=365)
    ca, ca_key = door.authority()
    if kind == "another CA":
        ca_key = certificates.new_key()
        ca = certificates.make_ca(ca_key, "edge-lab", "home.example", (), now)
    begin, end = {"expired": (now - year, now - timedelta(minutes=1)), "not yet valid": (now + timedelta(days=1), now + year)}.get(
        kind, (now - timedelta(minutes=5), now + year)
    )
    made = certificates.sign(ca, ca_key, "server" if kind == "of a server" else "client", key, "laptop", (), (), begin, end)
    for name, text in (("cert.pem", made), ("key.pem", key)):
        (scratch / name).write_text(text)
    return scratch / "cert.pem", scratch / "key.pem"

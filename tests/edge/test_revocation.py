"""A client that is thrown out is out everywhere, with all that it has open, and nobody else notices more than a line that is cut."""

from __future__ import annotations

import threading

import pytest
from edge_fleet import HOSTS, VERSIONS, Door, Stream

from tests.lab_fleet import LabFleet

DEADLINE_S = 30
"""Within which a revocation has ended what is open."""


@pytest.fixture(scope="module")
def revoked(edge: LabFleet) -> dict[str, Stream]:
    """The phone is thrown out while it has sessions, and an answer that goes on at each door."""
    streams = {}
    for host in HOSTS:
        door = Door.of(edge, host)
        streams[host] = Stream(door.connect(door.context(VERSIONS[1], door.identity("phone"))))
        threading.Thread(target=streams[host].read, daemon=True).start()
    for stream in streams.values():
        assert stream.begun.wait(300) and not stream.ended.is_set()
    return streams


def test_a_revocation_ends_what_is_open_and_no_session_opens_the_door_again(edge: LabFleet, revoked: dict[str, Stream]) -> None:
    doors = [Door.of(edge, host) for host in HOSTS]
    contexts = {(door.host, version): door.context(version, door.identity("phone")) for door in doors for version in VERSIONS}
    sessions = {}
    for door in doors:
        for version in VERSIONS:
            status, sessions[door.host, version] = door.get("/health", contexts[door.host, version])
            assert status == 200 and sessions[door.host, version]
    process = edge.on("new", "systemctl show -P MainPID caddy")

    done = edge.paddock("certs", "revoke", "phone", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout, flush=True)

    for host, stream in revoked.items():
        assert stream.ended.wait(DEADLINE_S), f"{host} goes on answering"
        assert b"[DONE]" not in stream.text, f"the answer of {host} was over before: the test shows nothing"
    assert edge.on("new", "systemctl show -P MainPID caddy") == process
    for door in doors:
        assert edge.on(door.host, "systemctl is-active caddy; systemctl show -P NRestarts caddy").split() == ["active", "0"]
        assert "panic" not in edge.on(door.host, "journalctl -u caddy -o cat")
        for version in VERSIONS:
            assert door.is_refused(contexts[door.host, version], sessions[door.host, version])
            assert door.is_refused(door.context(version, door.identity("phone")))
            assert door.get("/health", door.context(version, door.identity("laptop")))[0] == 200


def test_a_client_that_comes_cuts_no_line(edge: LabFleet, revoked: dict[str, Stream]) -> None:
    door = Door.of(edge, "new")
    stream = Stream(door.connect(door.context(VERSIONS[1], door.identity("laptop"))))
    threading.Thread(target=stream.read, daemon=True).start()
    assert stream.begun.wait(300)
    edge.write(edge.inventory.read_text().replace("laptop:", "guest:\n  laptop:"))
    edge.up("--no-verify")
    assert door.get("/health", door.context(VERSIONS[1], door.identity("guest")))[0] == 200
    assert not stream.ended.is_set()
    stream.connection.sock.close()


def test_the_only_administrator_is_thrown_out_while_another_client_stays(edge: LabFleet, revoked: dict[str, Stream]) -> None:
    for client in ("laptop", "guest"):
        Door.of(edge, "new").identity(client)
    done = edge.paddock("certs", "revoke", "laptop", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in HOSTS:
        door = Door.of(edge, host)
        assert door.is_refused(door.context(VERSIONS[1], door.identity("laptop")))
        assert door.get("/health", door.context(VERSIONS[1], door.identity("guest")))[0] == 200
        assert door.ask("GET", "/paddock/admin/preset", door.context(VERSIONS[1], door.identity("guest")))[0] == 403


def test_where_nobody_is_left_nobody_is_let_in(edge: LabFleet, revoked: dict[str, Stream]) -> None:
    for client in ("laptop", "guest"):
        Door.of(edge, "new").identity(client)
    done = edge.paddock("certs", "revoke", "laptop", "guest", "phone", "--lab")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in HOSTS:
        door = Door.of(edge, host)
        for client in ("laptop", "phone"):
            assert door.ask("GET", "/health", door.context(VERSIONS[1], door.identity(client)))[0] == 403
        assert door.is_refused(door.context(VERSIONS[1], None))
    for client in ("laptop", "guest"):
        assert edge.paddock("certs", "issue", client, "--lab", "--yes").returncode == 0

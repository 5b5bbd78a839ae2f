"""Who has been thrown out, as hosts keep it and as a state that lost it takes it back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control.pki import revocations as module
from control.pki.authority import Authority
from control.pki.leaves import UNLISTED_AFTER
from control.pki.revocations import Revocations, lacking, merged, read, revocations, take
from inventory.bounds import Bound
from inventory.fleet import Fleet

NOW = datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)


@pytest.fixture
def client(authority: Authority, fleet: Fleet) -> str:
    """One of a fleet whose certificates have been issued."""
    authority.issue(fleet, NOW)
    return next(iter(fleet.clients))


def test_what_is_written_is_read_again() -> None:
    said = Revocations({"phone": NOW}, {"phone": frozenset({"3f2a", "0b"}), "old-phone": frozenset({"1c"})})
    assert read(said.text.splitlines()) == said
    assert merged([said, Revocations(), Revocations({"phone": NOW - timedelta(days=1)})]).clients == {"phone": NOW - timedelta(days=1)}


def test_where_nobody_is_thrown_out_nothing_is_written() -> None:
    assert Revocations().text == ""


@pytest.mark.parametrize(
    "line", ["client ../../x 2026-03-01T12:00:01Z", "client phone 2026-99-01T12:00:01Z", "certificate phone x;y", "\x1b"]
)
def test_a_line_that_nobody_can_read_is_passed_over(line: str) -> None:
    assert read([line]) == Revocations()


def test_a_state_takes_over_a_revocation_that_it_lacks(authority: Authority, fleet: Fleet, client: str) -> None:
    serial = authority.leaves.record("client", client).leaves[0].serial
    theirs = Revocations({client: NOW})
    assert lacking(authority.leaves, theirs) == [f"client {client} was revoked on 2026-03-01"]
    take(authority.leaves, theirs)
    record = authority.leaves.record("client", client)
    assert record.revoked and record.revoked.serials == (serial,) and not record.leaves
    assert lacking(authority.leaves, theirs) == []
    assert revocations(authority.leaves) == Revocations({client: NOW}, {client: frozenset({serial})})
    assert authority.issue(fleet, NOW) == [], "nothing is issued for who is thrown out"


def test_a_certificate_that_was_thrown_out_stays_so_where_its_client_has_a_newer_one(
    authority: Authority, fleet: Fleet, client: str
) -> None:
    serial = authority.leaves.record("client", client).leaves[0].serial
    theirs = Revocations({}, {client: frozenset({serial})})
    assert lacking(authority.leaves, theirs) == [f"certificate {serial} of client {client} is let in no more"]
    take(authority.leaves, theirs)
    assert not authority.leaves.record("client", client).leaves
    assert [line for line in authority.issue(fleet, NOW) if line.startswith(f"client {client}: ")]
    assert serial not in {leaf.serial for leaf in authority.leaves.record("client", client).leaves}


def test_a_client_that_is_admitted_again_is_not_thrown_out_but_its_old_certificate_is(
    authority: Authority, fleet: Fleet, client: str
) -> None:
    serial = authority.leaves.record("client", client).leaves[0].serial
    authority.revoke(client, NOW)
    authority.admit(fleet, client, NOW)
    assert revocations(authority.leaves) == Revocations({}, {client: frozenset({serial})})


def test_a_certificate_that_is_long_past_its_end_is_listed_no_more_and_stays_out(authority: Authority, fleet: Fleet, client: str) -> None:
    authority.renew(fleet, [client], NOW)
    (first,) = authority.leaves.record("client", client).earlier
    authority.revoke_earlier(client)
    listed = Revocations({}, {client: frozenset({first.serial})})
    for now in (NOW, first.not_after, first.not_after + UNLISTED_AFTER - timedelta(seconds=1)):
        authority.put_by(now)
        assert revocations(authority.leaves) == listed, "a clock that is behind may take it for good"
    authority.put_by(first.not_after + UNLISTED_AFTER)
    assert revocations(authority.leaves).text == ""
    assert ("client", client) in authority.leaves.names() and authority.leaves.retired("client") == [(client, first.serial)]


def test_who_was_thrown_out_stays_listed_when_the_certificates_are_over(authority: Authority, client: str) -> None:
    authority.revoke(client, NOW)
    authority.put_by(NOW + timedelta(days=900))
    assert revocations(authority.leaves) == Revocations({client: NOW})


def test_what_cannot_be_read_stays_listed(authority: Authority, fleet: Fleet, client: str) -> None:
    authority.revoke(client, NOW)
    before = revocations(authority.leaves)
    for path in (authority._state.path / "certs" / "revoked" / "client").iterdir():
        path.write_bytes(b"\xff no certificate")
    authority.put_by(NOW + timedelta(days=900))
    assert revocations(authority.leaves) == before


def test_the_list_stays_within_what_is_read_of_it_and_clients_come_first(
    authority: Authority, fleet: Fleet, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for later in range(1, 4):
        authority.renew(fleet, [client], NOW + timedelta(days=later))
    *_, last = authority.leaves.record("client", client).earlier
    authority.revoke_earlier(client)
    other = next(name for name in fleet.clients if name != client)
    authority.revoke(other, NOW)
    whole = revocations(authority.leaves)
    wanted = Revocations({other: NOW}, {client: frozenset({last.serial})})
    monkeypatch.setattr(module, "REVOCATIONS", Bound("a test", len(wanted.text)))
    found = revocations(authority.leaves)
    assert len(found.text) <= len(wanted.text) < len(whole.text)
    assert found.clients == {other: NOW} and sum(map(len, found.serials.values())) == 1
    kept = next(iter(found.serials.items()))
    assert authority.leaves.ends("client")[kept[0], next(iter(kept[1]))] == max(authority.leaves.ends("client").values())
    monkeypatch.setattr(module, "REVOCATIONS", Bound("a test", 100))
    assert revocations(authority.leaves).text == ""

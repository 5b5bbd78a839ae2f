"""Who has been thrown out, as hosts keep it and as a state that lost it takes it back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control.pki.authority import Authority
from control.pki.revocations import Revocations, lacking, merged, read, revocations, take
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

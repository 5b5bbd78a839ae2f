"""This machine's clock is wrong: nothing is signed that would take the place of what is good, and nothing that clients hold is dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.deployment import clocks
from control.pki import certificates, roll_over
from control.pki.authority import Authority
from control.pki.leaves import Leaf
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet

EPOCH = datetime(1970, 1, 1, 0, 3, tzinfo=UTC)
AHEAD = timedelta(days=200)

Signs = Callable[[Authority, Fleet, datetime], object]

SIGNING: dict[str, Signs] = {
    "renew all": lambda authority, fleet, now: authority.renew(fleet, ["laptop", "phone", "ai.home.example"], now),
    "renew one": lambda authority, fleet, now: authority.renew(fleet, ["laptop"], now),
    "renew what is due": lambda authority, fleet, now: authority.issue(fleet, now),
    "issue to a new client": lambda authority, fleet, now: authority.admit(fleet, "tablet", now),
    "before the inventory is changed": lambda authority, fleet, now: authority.require_signing(fleet, now),
    "another CA": lambda authority, fleet, now: roll_over.begin(authority, fleet, now),
}


def files(state: FleetState) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file() and path.suffix != ".lock"}


def current(authority: Authority, client: str) -> Leaf:
    found = authority.leaves.record("client", client).current
    assert found
    return found


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of(clients={"laptop": {}, "phone": {"days": 30}, "tablet": {}})


@pytest.fixture
def issued(authority: Authority, fleet_of: Callable[..., Fleet], now: datetime) -> Authority:
    """Without the tablet; the phone has a newer certificate than the rest."""
    authority.issue(fleet_of(), now - timedelta(days=9))
    authority.renew(fleet_of(), ["phone"], now)
    return authority


# A clock that is behind


@pytest.mark.parametrize("sign", SIGNING.values(), ids=SIGNING)
@pytest.mark.parametrize("behind", [None, timedelta(days=5), timedelta(days=300), timedelta(minutes=6)])
def test_before_the_newest_certificate_began_nothing_is_signed_and_nothing_is_changed(
    issued: Authority, state: FleetState, fleet: Fleet, now: datetime, sign: Signs, behind: timedelta | None
) -> None:
    before = files(state)
    with pytest.raises(PaddockError, match=r"this machine's clock says .*client phone, begins on 2026-03-01 11:55 UTC: nothing was signed"):
        sign(issued, fleet, EPOCH if behind is None else now - behind)
    assert files(state) == before


@pytest.mark.parametrize("sign", SIGNING.values(), ids=SIGNING)
def test_before_the_ca_began_nothing_is_signed(authority: Authority, state: FleetState, fleet: Fleet, now: datetime, sign: Signs) -> None:
    """A CA that has signed nothing yet, as a run leaves it that dies early."""
    authority._first(fleet, now)
    before = files(state)
    with pytest.raises(PaddockError, match="the CA begins on 2026-03-01 11:55 UTC: nothing was signed"):
        sign(authority, fleet, EPOCH)
    assert files(state) == before


def test_who_is_thrown_out_is_thrown_out_whatever_the_clock_says(issued: Authority) -> None:
    assert issued.revoke("phone", EPOCH)
    assert issued.leaves.record("client", "phone").revoked


def test_a_clock_that_is_set_back_by_less_than_a_certificate_is_backdated_does_no_harm(
    issued: Authority, fleet: Fleet, now: datetime
) -> None:
    earlier = current(issued, "phone")
    issued.renew(fleet, ["phone"], now - timedelta(minutes=3))
    assert earlier in issued.leaves.record("client", "phone").earlier


def test_a_certificate_that_was_made_elsewhere_says_nothing_of_this_clock(issued: Authority, fleet: Fleet, now: datetime) -> None:
    theirs = current(issued, "phone")
    begins_later = Leaf(**{**vars(theirs), "serial": "0" * 32, "key": "", "not_before": now + timedelta(hours=1)})
    issued.leaves.keep_earlier(begins_later, issued.leaves.chain(theirs) or "")
    issued.renew(fleet, ["phone"], now)
    assert "0" * 32 in {each.serial for each in issued.leaves.record("client", "phone").earlier}


# A clock that is ahead


def test_nothing_that_clients_hold_is_dropped_when_the_clock_is_ahead(issued: Authority, fleet: Fleet, now: datetime) -> None:
    """What is over by that clock is kept, and counts again by the right one."""
    held = {name: current(issued, name) for name in ("laptop", "phone")}
    for _ in range(2):
        issued.renew(fleet, ["laptop", "phone"], now + AHEAD)
        issued.issue(fleet, now + AHEAD)
    for name, leaf in held.items():
        assert leaf in issued.leaves.record("client", name).earlier
        assert issued.leaves.chain(leaf) in issued.earlier(fleet, now)[name]


def test_a_change_to_another_ca_names_all_that_it_shuts_out_also_those_that_are_over_by_the_clock(
    issued: Authority, fleet: Fleet, now: datetime
) -> None:
    held = current(issued, "phone")
    roll_over.begin(issued, fleet, now)
    roll_over.switch(issued, now)
    issued.issue(fleet, now + AHEAD)
    assert held in roll_over.leaving(issued).earlier


def test_with_the_hosts_word_what_is_over_is_forgotten_and_no_more(issued: Authority, fleet: Fleet, now: datetime) -> None:
    first = issued.leaves.record("client", "phone").earlier
    issued.renew(fleet, ["phone"], now + timedelta(days=15))
    later = now + timedelta(days=25)  # the first of the phone's certificates, of 30 days, was made nine days before
    assert tuple(issued.over(fleet, later)) == first
    issued.forget(issued.over(fleet, later))
    assert len(issued.leaves.record("client", "phone").earlier) == 1 and issued.over(fleet, later) == []


# The way out, once it was signed under a wrong clock


def test_what_begins_in_the_future_is_replaced_where_the_clock_is_said_to_be_right(
    issued: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    held = current(issued, "laptop")
    issued.renew(fleet, ["laptop"], now + AHEAD)
    with pytest.raises(PaddockError, match="`paddock certs renew --clock-is-right`"):
        issued.issue(fleet, now)
    sure = Authority(state, Vault(state), clock_is_right=True)
    assert "client laptop: not valid before 2026-09-17 11:55 UTC" in sure.issue(fleet, now)
    assert issued.leaves.record("client", "laptop").earlier == (held,)
    assert issued.due(fleet, now) == [] and issued.issue(fleet, now) == []


def test_a_ca_that_begins_in_the_future_gives_way_to_another(state: FleetState, authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now + AHEAD)
    sure = Authority(state, Vault(state), clock_is_right=True)
    made = roll_over.begin(sure, fleet, now)
    roll_over.switch(sure, now)
    assert len(sure.issue(fleet, now)) == 4
    assert authority.due(fleet, now) == []
    leaf = authority.leaves.chain(current(authority, "laptop"))
    assert leaf and certificates.is_issued_by(leaf, made.pem)


def test_a_next_ca_that_begins_in_the_future_does_not_sign_and_is_made_anew(issued: Authority, fleet: Fleet, now: datetime) -> None:
    wrong = roll_over.begin(issued, fleet, now + AHEAD)
    with pytest.raises(PaddockError, match=f"CA {wrong.id} begins in the future"):
        roll_over.switch(issued, now)
    right = roll_over.begin(issued, fleet, now)
    assert issued.cas.standing().next == right.id and wrong.id not in issued.cas.standing().trusted
    with pytest.raises(PaddockError, match="is under way already"):
        roll_over.begin(issued, fleet, now)
    assert roll_over.switch(issued, now).id == right.id


# What hosts say

WRONG = {"ai": 17_280_000.0}


def test_a_clock_is_compared_with_the_time_that_its_answer_took() -> None:
    told = {"pea": 1000, "slow": 1009, "ai": 2000, "old": 0}
    assert clocks.compared(told, 1000.5, 1010.2) == {"pea": 0, "slow": 0, "ai": 999.5, "old": -1000.5}


@pytest.mark.parametrize("said", [{}, {"pea": 0.0}, {"pea": 0.0, "door": 0.0, **WRONG}])
def test_where_most_hosts_agree_or_none_has_said_anything_it_is_signed(said: dict[str, float]) -> None:
    clocks.require_agreement(said)


@pytest.mark.parametrize("said", [WRONG, {"pea": 0.0, **WRONG}, {"pea": -70.0, "door": 0.0, **WRONG}])
def test_where_as_many_hosts_say_another_time_nothing_is_signed(said: dict[str, float]) -> None:
    with pytest.raises(PaddockError, match=r"hosts say another time than this machine \(.*ai \+17280000 s.*: nothing was signed"):
        clocks.require_agreement(said)

"""A client whose certificate was renewed is still let in with the one before, until that expires or the client is thrown out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from control.deployment.knowledge import knowledge_for
from control.pki.authority import Authority
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED

FleetOf = Callable[..., Fleet]


def in_use(authority: Authority, fleet: Fleet, now: datetime) -> str:
    return authority.current(fleet, now)[2]["phone"].chain


def test_before_a_renewal_there_is_nothing_earlier(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    assert authority.earlier(fleet, now) == {}


def test_the_certificate_before_a_renewal_is_let_in_until_it_expires(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    first = in_use(authority, fleet, now)
    renewed = now + timedelta(days=21)  # of 30
    authority.issue(fleet, renewed)
    assert in_use(authority, fleet, renewed) != first
    assert authority.earlier(fleet, renewed) == {"phone": (first,)}
    assert authority.earlier(fleet, now + timedelta(days=29, hours=23)) == {"phone": (first,)}
    assert authority.earlier(fleet, now + timedelta(days=30)) == {}


def test_a_plan_before_the_renewal_counts_the_one_that_is_due_as_earlier(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    authority.issue(fleet, now)
    first = in_use(authority, fleet, now)
    knowledge = knowledge_for(fleet, state, now=now + timedelta(days=21))
    assert knowledge.clients["phone"].chain == TO_BE_ISSUED
    assert knowledge.earlier == {"phone": (first,)}


def test_every_renewal_adds_to_it_and_what_has_expired_falls_out(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    authority.issue(fleet, now)
    seen = [in_use(authority, fleet, now)]
    for day in (5, 10):
        authority.renew(fleet, ["phone"], now + timedelta(days=day))
        seen.append(in_use(authority, fleet, now + timedelta(days=day)))
    assert sorted(authority.earlier(fleet, now + timedelta(days=10))["phone"]) == sorted(seen[:2])
    authority.renew(fleet, ["phone"], now + timedelta(days=31))  # the first is over
    assert sorted(authority.earlier(fleet, now + timedelta(days=31))["phone"]) == sorted(seen[1:])
    authority.forget(authority.over(fleet, now + timedelta(days=31)))
    assert len(authority.leaves.record("client", "phone").earlier) == 2
    kept = sorted(path.suffix for path in (state.path / "certs" / "client" / "phone").iterdir())
    assert kept == [".age", ".pem", ".pem", ".pem"]  # one key: that of the certificate in use


def test_a_servers_certificate_has_no_earlier_one(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    authority.renew(fleet, ["ai.home.example"], now)
    assert authority.leaves.record("server", "ai.home.example").earlier == ()
    assert len(list((state.path / "certs" / "server" / "ai.home.example").iterdir())) == 2


def test_who_is_revoked_is_out_with_all_certificates(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    authority.renew(fleet, ["phone"], now)
    serials = {leaf.serial for leaf in authority.leaves.record("client", "phone").leaves}
    authority.revoke("phone", now)
    knowledge = knowledge_for(fleet, state, now=now)
    assert (sorted(knowledge.clients), knowledge.earlier) == (["laptop"], {})
    revoked = authority.leaves.record("client", "phone").revoked
    assert revoked and set(revoked.serials) == serials and len(serials) == 2
    assert {path.stem for path in (state.path / "certs" / "revoked" / "client").iterdir()} == {f"phone-{each}" for each in serials}


def test_only_the_earlier_ones_can_be_thrown_out(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    first = authority.leaves.record("client", "phone").current
    authority.renew(fleet, ["phone"], now)
    second = in_use(authority, fleet, now)
    assert authority.revoke_earlier("phone") == (first,)
    assert authority.earlier(fleet, now) == {}
    assert in_use(authority, fleet, now) == second
    assert authority.revoke_earlier("phone") == ()


def test_a_certificate_whose_key_was_lost_here_is_still_let_in_beside_the_new_one(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    authority.issue(fleet, now)
    first = in_use(authority, fleet, now)
    (key,) = (state.path / "certs" / "client" / "phone").glob("*.key.age")
    key.unlink()
    assert authority.issue(fleet, now) == ["client phone: its key is missing"]
    assert authority.earlier(fleet, now) == {"phone": (first,)}


def test_a_revoked_client_is_not_renewed(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    authority.revoke("phone", now)
    with pytest.raises(PaddockError, match="client phone: is revoked: `paddock certs issue phone` admits it again"):
        authority.renew(fleet, ["phone"], now)
    with pytest.raises(PaddockError, match="tablet: is neither a client nor a site of fleet home"):
        authority.renew(fleet, ["tablet"], now)


def test_a_revoked_client_of_a_host_has_no_identity_there(authority: Authority, fleet_of: FleetOf, now: datetime) -> None:
    roles = {"caddy": {"sites": {"ai.home.example": {"upstream": "pea"}}}, "client": {"accounts": {"ann": {"client": "laptop"}}}}
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}})
    authority.issue(fleet, now)
    assert "PRIVATE KEY" in authority.identities(fleet, now)["laptop"].key
    authority.revoke("laptop", now)
    assert authority.identities(fleet, now) == {}


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "3", '{"current": 3}', '{"serial": 3}', '{"current": null, "earlier": [{}]}', "[" * 100_000],
)
def test_a_damaged_record_is_told_in_one_line(authority: Authority, state: FleetState, fleet: Fleet, now: datetime, damage: str) -> None:
    authority.issue(fleet, now)
    (state.path / "certs" / "client" / "phone.json").write_text(damage)
    with pytest.raises(PaddockError, match=r"phone\.json: is damaged: put it back from a backup or from git, or delete it") as told:
        authority.due(fleet, now)
    assert "\n" not in str(told.value)


def test_another_ones_record_is_damage_too(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    clients = state.path / "certs" / "client"
    (clients / "phone.json").write_bytes((clients / "laptop.json").read_bytes())
    with pytest.raises(PaddockError, match=r"phone\.json: is damaged"):
        authority.due(fleet, now)


def test_a_time_without_zone_is_damage_and_no_traceback(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    record = state.path / "certs" / "client" / "phone.json"
    record.write_text(record.read_text().replace('Z"', '"').replace('+00:00"', '"'))
    with pytest.raises(PaddockError, match=r"phone\.json: is damaged"):
        authority.due(fleet, now)

"""An older state, with its one CA beside everything else, is read as it lies and taken over when something is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from control.pki import certificates, roll_over
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.fleet import Fleet
from tests.older_state import older_state

FIRST = ("ca.pem", "ca.json", "ca.key.age")


def test_it_is_read_as_it_lies_and_looking_changes_nothing(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    older_state(authority, state, fleet, now)
    before = {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()}
    assert authority.due(fleet, now) == []
    ca, servers, clients = authority.current(fleet, now)
    assert ca == (state.path / "ca.pem").read_text()
    assert (sorted(servers), sorted(clients)) == (["ai.home.example"], ["laptop", "phone"])
    assert authority.exportable("laptop")[1] == ca
    assert {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()} == before


def test_the_first_renewal_takes_it_over_whole(authority: Authority, state: FleetState, vault: Vault, fleet: Fleet, now: datetime) -> None:
    older_state(authority, state, fleet, now)
    ca, servers, clients = authority.current(fleet, now)
    later = now + timedelta(days=21)
    assert authority.issue(fleet, later) == ["client phone: expires in 8 days"]
    assert authority.current(fleet, later)[0] == ca
    assert authority.current(fleet, later)[1] == servers
    assert authority.current(fleet, later)[2]["laptop"] == clients["laptop"]
    assert authority.earlier(fleet, later) == {"phone": (clients["phone"].chain,)}
    assert [name for name in FIRST if (state.path / name).exists()] == []
    (directory,) = (state.path / "certs" / "authorities").iterdir()
    assert ca and directory.name == certificates.id_of(ca)
    assert certificates.belongs(ca, vault.unseal(f"certs/authorities/{directory.name}/key").decode())
    assert not (state.path / "certs" / "client" / "phone.key.age").exists()


@pytest.mark.parametrize("step", ["revoke", "begin"])
def test_it_can_be_revoked_in_and_rolled_over_at_once(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, step: str
) -> None:
    older_state(authority, state, fleet, now)
    old = authority.current(fleet, now)[0]
    if step == "revoke":
        authority.revoke("phone", now)
        assert sorted(authority.current(fleet, now)[2]) == ["laptop"]
        assert not list((state.path / "certs" / "client").rglob("phone*.key.age"))
    else:
        roll_over.begin(authority, fleet, now)
        bundle = authority.current(fleet, now)[0]
        assert bundle and old and bundle.startswith(old) and bundle.count("BEGIN CERTIFICATE") == 2
    assert authority.due(fleet, now) == []


def test_what_a_run_that_died_left_of_the_old_files_goes_with_the_next(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    older_state(authority, state, fleet, now)
    first = {name: (state.path / name).read_bytes() for name in FIRST}
    authority.renew(fleet, ["phone"], now)
    for name, data in first.items():
        (state.path / name).write_bytes(data)
    authority.renew(fleet, ["phone"], now)
    assert [name for name in FIRST if (state.path / name).exists()] == []


def test_another_ca_that_somebody_put_there_is_left_alone(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    other = certificates.make_ca(certificates.new_key(), "home", "home.example", (), now)
    (state.path / "ca.pem").write_text(other)
    authority.renew(fleet, ["phone"], now)
    assert (state.path / "ca.pem").read_text() == other
    assert other not in (authority.bundle() or "")

"""A change from one CA to another, in three steps: nobody is shut out on the way, and nobody who left comes back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from control.deployment.knowledge import knowledge_for
from control.pki import roll_over
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet

FleetOf = Callable[..., Fleet]


def subjects(bundle: str | None) -> list[str]:
    return [each.subject.rfc4514_string() for each in x509.load_pem_x509_certificates((bundle or "").encode())]


def verifies(tmp_path: Path, bundle: str | None, leaf: str, purpose: str, now: datetime) -> bool:
    (tmp_path / "trusted.pem").write_text(bundle or "")
    (tmp_path / "leaf.pem").write_text(leaf)
    at = str(int(now.timestamp()))
    command = ["openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose, "-CAfile", "trusted.pem", "leaf.pem"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_after_begin_both_are_trusted_and_nothing_is_issued_anew(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    before = authority.current(fleet, now)
    roll_over.begin(authority, fleet, now)
    bundle, servers, clients = authority.current(fleet, now)
    assert authority.due(fleet, now) == []
    assert (servers, clients) == before[1:]
    assert len(subjects(bundle)) == 2 and subjects(bundle)[0] == subjects(before[0])[0]


def test_after_switch_everything_is_issued_anew_and_what_clients_hold_is_let_in(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, tmp_path: Path
) -> None:
    authority.issue(fleet, now)
    old = authority.current(fleet, now)[2]
    roll_over.begin(authority, fleet, now)
    roll_over.switch(authority, now)
    assert authority.due(fleet, now) == [
        "server ai.home.example: made by another CA",
        "client laptop: made by another CA",
        "client phone: made by another CA",
    ]
    authority.issue(fleet, now)
    knowledge = knowledge_for(fleet, state, now=now)
    assert knowledge.earlier == {name: (leaf.chain,) for name, leaf in old.items()}
    for leaf in (*knowledge.clients.values(), *old.values()):
        assert verifies(tmp_path, knowledge.ca, leaf.chain, "sslclient", now)
    assert verifies(tmp_path, knowledge.ca, knowledge.servers["ai.home.example"].chain, "sslserver", now)


def test_after_finish_only_the_new_one_vouches(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, tmp_path: Path
) -> None:
    authority.issue(fleet, now)
    old = authority.current(fleet, now)
    roll_over.begin(authority, fleet, now)
    roll_over.switch(authority, now)
    authority.issue(fleet, now)
    gone = roll_over.finish(authority)
    assert [issuer.pem for issuer in gone.cas] == [old[0]]
    assert sorted(leaf.name for leaf in gone.earlier) == ["laptop", "phone"]
    knowledge = knowledge_for(fleet, state, now=now)
    assert len(subjects(knowledge.ca)) == 1 and subjects(knowledge.ca) != subjects(old[0])
    assert knowledge.earlier == {}
    assert verifies(tmp_path, knowledge.ca, knowledge.clients["laptop"].chain, "sslclient", now)
    assert not verifies(tmp_path, knowledge.ca, old[2]["laptop"].chain, "sslclient", now)
    assert authority.due(fleet, now) == []


def test_finish_waits_for_what_the_old_ca_still_holds_up(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    roll_over.begin(authority, fleet, now)
    roll_over.switch(authority, now)
    with pytest.raises(PaddockError, match=r"client laptop, client phone, server ai\.home\.example: `paddock up` issues new ones"):
        roll_over.finish(authority)
    assert len(authority.cas.trusted()) == 2
    roll_over.finish(authority, force=True)
    assert len(authority.cas.trusted()) == 1
    authority.issue(fleet, now)
    assert authority.due(fleet, now) == []


def test_steps_out_of_order_are_refused(authority: Authority, fleet: Fleet, now: datetime) -> None:
    with pytest.raises(PaddockError, match="has no CA of its own yet"):
        roll_over.begin(authority, fleet, now)
    authority.issue(fleet, now)
    with pytest.raises(PaddockError, match="there is no next CA"):
        roll_over.switch(authority, now)
    with pytest.raises(PaddockError, match="only one CA is trusted"):
        roll_over.finish(authority)
    roll_over.begin(authority, fleet, now)
    with pytest.raises(PaddockError, match="is under way already"):
        roll_over.begin(authority, fleet, now)
    with pytest.raises(PaddockError, match="the old CA still signs"):
        roll_over.finish(authority, force=True)


def test_who_was_revoked_before_is_revoked_after(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    authority.revoke("phone", now)
    roll_over.begin(authority, fleet, now)
    roll_over.switch(authority, now)
    authority.issue(fleet, now)
    assert sorted(authority.current(fleet, now)[2]) == ["laptop"]
    assert sorted(authority.earlier(fleet, now)) == ["laptop"]


@pytest.mark.parametrize("lost", ["expired", "key gone", "other domain"])
def test_a_ca_that_cannot_sign_any_more_is_left_by_a_roll_over(
    authority: Authority, vault: Vault, fleet: Fleet, fleet_of: FleetOf, now: datetime, lost: str
) -> None:
    authority.issue(fleet, now)
    signing = authority.cas.signing()
    assert signing
    later = now + timedelta(days=3700) if lost == "expired" else now + timedelta(days=61)
    if lost == "key gone":
        vault.path(f"certs/authorities/{signing.id}/key").unlink()
    then = fleet_of(domain="example", clients={"laptop": {}}) if lost == "other domain" else fleet
    with pytest.raises(PaddockError, match="`paddock certs roll-over begin`"):
        authority.issue(then, later)
    roll_over.begin(authority, then, later)
    roll_over.switch(authority, later)
    authority.issue(then, later)
    assert authority.due(then, later) == []


def test_a_ca_near_its_end_is_told_of_and_the_steps_of_a_change_too(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    assert authority.advice(now + timedelta(days=3000)) == ""
    late = now + timedelta(days=3300)
    assert authority.advice(late).startswith("the CA expires in 351 days") and "roll-over begin" in authority.advice(late)
    roll_over.begin(authority, fleet, late)
    assert "roll-over switch" in authority.advice(late)
    roll_over.switch(authority, late)
    assert "roll-over finish" in authority.advice(late)
    authority.issue(fleet, late)
    roll_over.finish(authority)
    assert authority.advice(late) == ""
    authority.revoke("phone", late)
    assert authority.notices(fleet, late) == ["client phone: revoked on 2035-03-14, `paddock certs issue phone` admits it again"]


DAMAGES = ["", "{", "[]", "3", "{}", '{"signing": "x", "trusted": ["x"], "next": null}', '{"signing": null, "trusted": 3, "next": null}']
DAMAGES += [
    '{"signing": "00000000", "trusted": [], "next": null}',
    '{"signing": null, "trusted": ["../../../x"], "next": null}',
    "[" * 100_000,
]
DAMAGES += ['{"signing": null, "trusted": [[]], "next": {}}']


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pointer_is_told_in_one_line(authority: Authority, fleet: Fleet, now: datetime, damage: str) -> None:
    authority.issue(fleet, now)
    authority.cas.path.write_text(damage)
    for verb in (authority.due, authority.current, authority.issue):
        with pytest.raises(PaddockError, match=r"authorities\.json: is damaged: put it back from a backup or from git") as told:
            verb(fleet, now)
        assert "\n" not in str(told.value)


NOTE_DAMAGES = [(name, value) for name in ("not_after", "networks", "domain", "certificate") for value in (3, {})]
NOTE_DAMAGES += [("not_after", None), ("not_after", "x"), ("not_after", "2036-01-01T00:00:00"), ("networks", None), ("networks", [[]])]
NOTE_DAMAGES += [("certificate", "x"), ("", 3), ("", []), ("", {})]


@pytest.mark.parametrize(("name", "value"), NOTE_DAMAGES)
def test_a_damaged_note_on_a_ca_is_made_up_for_by_its_certificate(
    authority: Authority, fleet: Fleet, now: datetime, name: str, value: object
) -> None:
    authority.issue(fleet, now)
    signing = authority.cas.signing()
    assert signing
    path = authority.cas.directory(signing.id) / "ca.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value} if name else value))
    assert authority.cas.signing() == signing
    assert authority.due(fleet, now) == []


@pytest.mark.parametrize("damage", [None, "", "garbled", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_ca_that_is_missing_or_garbled_is_told_in_one_line(authority: Authority, fleet: Fleet, now: datetime, damage: str | None) -> None:
    authority.issue(fleet, now)
    signing = authority.cas.signing()
    assert signing
    path = authority.cas.directory(signing.id) / "ca.pem"
    path.unlink() if damage is None else path.write_text(damage)
    for verb in (authority.due, authority.current, authority.issue):
        with pytest.raises(PaddockError, match=r"ca\.pem: .*put it back from a backup or from git") as told:
            verb(fleet, now)
        assert "\n" not in str(told.value)
    assert authority.cas.has_key(signing)

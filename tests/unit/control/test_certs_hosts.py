"""The certificates that two hosts show each other: both are for either end, and neither passes for a client or a site."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control.deployment.bearers import bearing, certificates_alone
from control.deployment.work import Work
from control.pki import roll_over
from control.pki.authority import Authority
from control.pki.listing import listed
from inventory.fleet import Fleet
from resources import File, Resource
from resources.drift import drift
from resources.probe import Actual


def hosts(**worker: Any) -> dict[str, Any]:
    instance = {"model": "demo", "listen": "127.0.0.1:8081", "workers": ["big"]}
    serving = {"llama_cpp": {}, "models": {}, "llama_server": {"instances": {"chat": instance}}}
    return {
        "ai": {"name": "ai", "address": "192.0.2.7", "roles": serving},
        "big": {"name": "big", "address": "192.0.2.8", "roles": {"llama_cpp": {}, "rpc_worker": {"listen": "192.0.2.8:50051", **worker}}},
        "third": {"name": "third", "address": "192.0.2.9", "roles": {"llama_cpp": {}}},
    }


def common_names(pem: str) -> list[str | bytes]:
    return [each.value for each in x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


@pytest.fixture
def pair(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of(hosts=hosts(), models={"demo": {}}, clients={"laptop": {}})


def test_both_ends_of_an_encrypted_hop_have_one_and_no_other_host(authority: Authority, pair: Fleet, now: datetime) -> None:
    assert authority.issue(pair, now) == ["CA: new", "client laptop: new", "host ai: new", "host big: new"]
    found = authority.hosts(pair, now)
    assert found.keys() == {"ai", "big"} and all(each.key for each in found.values())
    assert authority.issue(pair, now) == []


def test_it_is_for_both_ends_and_stands_for_no_client_and_no_site(authority: Authority, pair: Fleet, now: datetime, tmp_path: Path) -> None:
    authority.issue(pair, now)
    pem = authority.hosts(pair, now)["ai"].chain
    leaf = x509.load_pem_x509_certificate(pem.encode())
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert common_names(pem) == ["host ai", f"host {leaf.serial_number:032x}"]
    assert not [each for each in leaf.extensions if isinstance(each.value, x509.SubjectAlternativeName)]
    (tmp_path / "ca.pem").write_text(authority.bundle() or "")
    (tmp_path / "leaf.pem").write_text(pem)
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(now.timestamp())), "-CAfile", "ca.pem"]
    for purpose in ("sslserver", "sslclient"):
        done = subprocess.run([*command, "-purpose", purpose, "leaf.pem"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "-verify_hostname", "ai", "leaf.pem"], cwd=tmp_path, capture_output=True)
    assert done.returncode
    lint = [sys.executable, "-m", "pkilint.bin.lint_pkix_cert", "lint", "--format", "JSON", "--severity", "NOTICE", "leaf.pem"]
    said = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True)
    assert (said.returncode, json.loads(said.stdout)["results"]) == (0, [])


def test_it_is_renewed_when_a_third_of_its_life_is_left_and_the_one_before_is_kept_until_the_next(
    authority: Authority, pair: Fleet, now: datetime
) -> None:
    authority.issue(pair, now)
    before = authority.hosts(pair, now)
    late = now + timedelta(days=61)
    assert [line for line in authority.due(pair, late) if line.startswith("host ")] == [
        "host ai: expires in 28 days",
        "host big: expires in 28 days",
    ]
    authority.issue(pair, late)
    after = authority.hosts(pair, late)
    assert {name for name in after if after[name].chain != before[name].chain} == {"ai", "big"}
    (kept,) = authority.leaves.record("host", "ai").earlier
    assert authority.earlier_hosts(pair, late)["ai"] == (before["ai"].chain,)
    authority.renew(pair, ["ai"], late)
    (next_kept,) = authority.leaves.record("host", "ai").earlier
    assert kept.serial != next_kept.serial and authority.earlier_hosts(pair, late)["ai"] == (after["ai"].chain,)
    assert not authority.earlier_hosts(pair, late + timedelta(days=90)).get("ai")


def test_one_bears_its_own_mark_and_that_of_the_one_before(authority: Authority, pair: Fleet, now: datetime) -> None:
    """So who knows one takes the next, and who knows the next takes the one before no more."""
    found = []
    for _ in range(3):
        authority.issue(pair, now)
        found.append(authority.hosts(pair, now)["ai"])
        authority.renew(pair, ["ai"], now)
    first, second, third = found
    assert [first.mark in common_names(each.chain) for each in found] == [True, True, False]
    assert [second.mark in common_names(each.chain) for each in found] == [False, True, True]
    assert third.mark not in common_names(second.chain)


def test_one_without_a_mark_is_issued_anew(authority: Authority, pair: Fleet, now: datetime) -> None:
    authority.issue(pair, now)
    record = authority.leaves.record("host", "ai")
    assert record.current
    authority.leaves.write_record("host", "ai", replace(record, current=replace(record.current, marks=())))
    assert authority.due(pair, now) == ["host ai: has no mark: an older Paddock made it"]


def test_what_is_issued_for_clients_alone_leaves_out_those_of_hosts(authority: Authority, pair: Fleet, now: datetime) -> None:
    authority.issue(pair, now)
    later = now + timedelta(days=65)
    assert [line for line in authority.due(pair, later) if line.startswith("host ")]
    assert authority.due(pair, later, kinds=("server", "client")) == []
    before = authority.hosts(pair, now)
    authority.issue(pair, later, kinds=("server", "client"))
    assert authority.hosts(pair, now) == before


def test_one_that_its_owner_asks_for_is_renewed_alone(authority: Authority, pair: Fleet, now: datetime) -> None:
    authority.issue(pair, now)
    before = authority.hosts(pair, now)
    assert authority.renew(pair, ["big"], now) == ["host big: renewed"]
    after = authority.hosts(pair, now)
    assert (after["ai"] == before["ai"], after["big"] == before["big"]) == (True, False)


def test_a_client_of_the_same_name_that_is_thrown_out_is_not_renewed_with_it(
    authority: Authority, now: datetime, fleet_of: Callable[..., Fleet]
) -> None:
    both = fleet_of(hosts=hosts(), models={"demo": {}}, clients={"big": {}})
    authority.issue(both, now)
    authority.revoke("big", now)
    assert authority.renew(both, ["big"], now) == ["host big: renewed"]
    assert authority.revoked(both).keys() == {"big"}


def test_it_is_listed_with_its_host(authority: Authority, pair: Fleet, now: datetime) -> None:
    authority.issue(pair, now)
    found = [(each.kind, each.name, each.status, each.where) for each in listed(authority, pair, now) if each.kind == "host"]
    assert found == [("host", "ai", "in use", ("ai",)), ("host", "big", "in use", ("big",))]


def test_it_comes_along_to_another_ca(authority: Authority, pair: Fleet, now: datetime) -> None:
    authority.issue(pair, now)
    roll_over.begin(authority, pair, now)
    roll_over.switch(authority, now)
    assert [line for line in authority.issue(pair, now) if line.startswith("host ")] == [
        "host ai: made by another CA",
        "host big: made by another CA",
    ]
    roll_over.finish(authority)
    assert authority.hosts(pair, now).keys() == {"ai", "big"}


def test_a_host_that_is_no_end_any_more_loses_its_key(
    authority: Authority, pair: Fleet, now: datetime, fleet_of: Callable[..., Fleet]
) -> None:
    authority.issue(pair, now)
    clear = fleet_of(hosts=hosts(encrypted=False), models={"demo": {}}, clients={"laptop": {}})
    assert authority.issue(clear, now) == ["host ai: no longer in the inventory", "host big: no longer in the inventory"]
    assert authority.hosts(clear, now) == {}
    assert not list((authority.leaves._state.path / "certs" / "host").rglob("*.age"))


def test_a_change_of_certificates_reaches_both_hosts_and_starts_no_server_anew(pair: Fleet) -> None:
    assert [host.name for host in bearing(pair)] == ["ai", "big"]
    assert bearing(pair, of_clients=True) == ()
    leaf, unit = File("/etc/paddock/rpc-tunnel/host.pem", "new"), File("/etc/systemd/system/llama-server-chat.service", "new")
    plan: dict[str, tuple[Resource, ...]] = {"llama_server": (leaf, unit)}
    before = [File(each.path, "old") for each in (leaf, unit)]
    actual = Actual({each.id: dict(each.desired) for each in before}, manifest={each.id: "put" for each in before})
    alone = certificates_alone(Work(plan, actual, drift(plan, actual)))
    assert [each.id for each in alone.drift.changes] == [leaf.id]

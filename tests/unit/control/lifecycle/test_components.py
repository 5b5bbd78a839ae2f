"""Which program of a host is to have another version, and what of it is put back."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from cli.upgrade import _only
from control.deployment.deployment import Deployment
from control.deployment.guard import in_the_way
from control.deployment.part import role_alone
from control.deployment.plans import _offered
from control.deployment.work import Work
from control.lifecycle.components import Offer, offers_of, other_major, upgrade_of
from control.lifecycle.rows import lost
from inventory.errors import UsageError
from resources import Directory, File, Package, Resource, Service, Venv
from resources.drift import drift
from resources.guard import Guard
from resources.guarded import kept_versions
from resources.probe import Actual
from resources.steps import Steps
from resources.venv import Wheel

CADDY = Package("caddy", version="2.11.4-1", deb="d" * 64, gate="true")
SITES = File("/etc/caddy/paddock/sites.caddy", "new\n", goes_back=True)
LISTED = File("/etc/caddy/paddock/admitted", "llama laptop\n")
KEY = File("/etc/caddy/paddock/llama.key", "key\n", mode=0o640, secret=True)
DOOR = Service("caddy.service", restarts=(CADDY,), reloads=(SITES, LISTED, KEY))
ENVIRONMENT = Venv("/opt/paddock/gateway", (Wheel("paddock_gateway-0.2.0-py3-none-any.whl", "a" * 64, 1),))
CONFIGURATION = File("/etc/paddock/gateway/gateway.json", "{}\n", mode=0o640, secret=True, goes_back=True)
PEPPER = File("/etc/paddock/gateway/pepper", "pepper\n", mode=0o640, secret=True)
GATEWAY = Service("paddock-gateway.service", restarts=(ENVIRONMENT, CONFIGURATION, PEPPER), takes_back=("note", "before", "after"))
PLAN: dict[str, tuple[Resource, ...]] = {
    "postgres": (Package("postgresql"),),
    "gateway": (ENVIRONMENT, CONFIGURATION, PEPPER, GATEWAY.stamp, GATEWAY),
    "caddy": (CADDY, SITES, LISTED, KEY, DOOR.stamp, DOOR),
}
THERE = {
    CADDY.id: {"state": "installed", "version": "2.6.2-5"},
    ENVIRONMENT.id: {"wheels": "0" * 16, "python": "host's", "files": "intact"},
}
GUARD = Guard("run-1", 300, "the switch")


def work(plan: dict[str, tuple[Resource, ...]] = PLAN, manifest: Any = None) -> Work:
    services = {each.id: {"active": "active"} for each in (DOOR, GATEWAY)}
    actual = Actual(resources={**THERE, **services}, manifest=manifest or {})
    return Work(plan, actual, drift(plan, actual))


def found(component: str, offers: Iterable[Offer] = (), plan: dict[str, tuple[Resource, ...]] = PLAN) -> tuple[str, str] | None:
    class Looking:
        work = {"box": globals()["work"](plan)}

    upgrade = upgrade_of(cast(Deployment, Looking()), "box", component, offers)
    return (upgrade.before, upgrade.after) if upgrade else None


def test_a_package_file_and_a_gateway_of_another_version_are_found() -> None:
    assert found("caddy") == ("2.6.2-5", "2.11.4-1")
    assert found("gateway") == ("0" * 16, f"0.2.0-{ENVIRONMENT.digest}")
    assert found("llama_cpp") is None and found("postgres") is None


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("caddy\t2.6.2-5\t2.6.2-6\t2.6.2-6 2.6.2-5 ", "2.6.2-6"),
        ("caddy\t2.6.2-5\t2.6.2-5\t2.6.2-5 ", ""),
        ("caddy\t2.6.2-5\t2.6.2-5\t2.8.0-1~bpo12+1 2.6.2-5 ", ""),
        ("caddy\t2.11.4-1\t2.11.4-1\t2.6.2-5 ", "2.6.2-5"),
        ("caddy\t2.11.4-1\t(none)\t", ""),
        ("caddy\t\t2.6.2-5\t2.6.2-5 ", ""),
    ],
    ids=["newer", "the same", "backports are nobody's choice", "from a file, and named no more", "no lists", "not there yet"],
)
def test_what_the_distribution_has_is_to_be_there_where_the_inventory_names_no_file(line: str, other: str) -> None:
    [offer] = offers_of([line])
    assert offer.other == other
    plain = {**PLAN, "caddy": (Package("caddy"), SITES)}
    assert found("caddy", [offer], plain) == ((offer.installed, other) if other else None)


def test_answers_that_make_no_sense_are_no_offers() -> None:
    assert list(offers_of(["", "a b\t1\t1\t1", "caddy\t1", "default\t17"])) == []


def test_a_cluster_of_another_major_version_is_left_as_it_is_and_told() -> None:
    line = "postgresql-15\t15.8-0\t15.9-0\t15.9-0 "
    assert other_major([line, "default\t15"]) == other_major([line]) == ""
    assert "its cluster is of PostgreSQL 15, and the distribution's is 17" in other_major([line, "default\t17"])


def test_a_version_of_postgres_is_the_clusters_and_its_manifest_entry_is_nobodys() -> None:
    plain = Package("postgresql", gate="true")
    planned = list(_offered((plain, SITES), {"postgresql-17": "17.6-0"}))
    assert planned == [plain, Package("postgresql-17", version="17.6-0"), SITES]
    assert isinstance(planned[1], Package) and planned[1].gate == "true" and not planned[1].noted and plain.noted


def test_a_table_that_is_gone_or_empty_is_lost_and_old_rows_of_the_log_are_not() -> None:
    before = {"users": 2, "keys": 3, "llama_requests": 900, "empty": 0}
    assert list(lost(before, {"users": 2, "keys": 4, "llama_requests": 870, "empty": 0})) == []
    assert list(lost(before, {"keys": 0, "llama_requests": 1, "empty": 0})) == [
        "the table users is gone",
        "the table keys had 3 rows and has none",
    ]


def test_of_one_role_alone_the_changes_are_made_and_what_left_the_inventory_stays() -> None:
    whole = work(manifest={"file:/etc/gone": "put"})
    part = role_alone(whole, "caddy")
    assert "file:/etc/gone" in whole.drift.gone and not part.drift.gone
    assert {each.role for each in part.drift.changes} == {"caddy"} and part.drift.manifest["file:/etc/gone"] == "put"
    assert ENVIRONMENT.id not in part.drift.manifest
    assert part.part_of_plan == {"caddy": PLAN["caddy"]}, "what waits for up is not verified"
    assert whole.part_of_plan == PLAN


def test_what_one_role_has_no_more_in_a_directory_of_its_own_leaves() -> None:
    plan = {**PLAN, "caddy": (Directory("/etc/caddy/paddock", exclusive=True), *PLAN["caddy"])}
    whole = work(plan, {"file:/etc/caddy/paddock/cut": "put", "file:/etc/gone": "put"})
    assert not role_alone(whole, "caddy").drift.gone, "as long as it may be taken back"
    part = role_alone(whole, "caddy", leaves=True)
    assert part.drift.gone == ["file:/etc/caddy/paddock/cut"]
    assert "file:/etc/caddy/paddock/cut" in part.drift.claims and "file:/etc/caddy/paddock/cut" not in part.drift.manifest
    assert part.drift.manifest["file:/etc/gone"] == "put"


def test_of_caddy_the_package_its_units_and_its_sites_go_back_but_no_list_and_no_key() -> None:
    kept = role_alone(work(), "caddy").kept
    assert kept.packages == ("caddy",) and kept.units == ("caddy.service",)
    assert kept.paths == (SITES.path, DOOR.stamp.path)
    [(note, before, _)] = kept.undo.values()
    assert LISTED.path in note and KEY.path not in note and f"cp -p {SITES.path}" in before


def test_a_caddy_whose_lists_change_in_the_same_run_is_left_for_up() -> None:
    assert "admitted changes, and who is let in is not taken back" in in_the_way(role_alone(work(), "caddy"), GUARD)
    THERE[LISTED.id] = LISTED.desired
    try:
        assert in_the_way(role_alone(work(), "caddy"), GUARD) == ""
    finally:
        del THERE[LISTED.id]
    assert in_the_way(role_alone(work(), "gateway"), GUARD) == ""


def test_of_a_gateway_its_environment_and_its_configuration_go_back_and_what_that_says_is_not_told() -> None:
    kept = role_alone(work(), "gateway").kept
    assert kept.paths == (ENVIRONMENT.current, CONFIGURATION.path, GATEWAY.stamp.path)
    assert CONFIGURATION.path in kept.secret and kept.undo == {GATEWAY.unit: ("note", "before", "after")}
    steps = Steps()
    kept.arm(steps, GUARD)
    assert [each.split()[0] for each in steps.calls] == ["guard_arm", "guard_secret", "guard_undo", "guard_extend"]


def test_who_is_let_in_since_stays_let_in_and_nobody_else(tmp_path: Path) -> None:
    """The sites of before go back only where the lists beside them are as they were."""
    import subprocess

    listed, sites = tmp_path / "admitted", tmp_path / "sites.caddy"
    (tmp_path / "kept/files" / str(tmp_path).lstrip("/")).mkdir(parents=True)
    copy = tmp_path / "kept/files" / str(sites).lstrip("/")
    file = File(str(sites), "new\n", goes_back=True)
    change = drift({"caddy": (file,)}, Actual(resources={})).changes
    [(note, before, _)] = kept_versions(change, [file, File(str(listed), "x")]).undo.values()
    for after, expected in (("laptop\n", "old\n"), ("\n", "new\n")):
        listed.write_text("laptop\n")
        sites.write_text("new\n")
        copy.write_text("old\n")
        kept = tmp_path / "kept"
        (kept / "noted").write_bytes(subprocess.run(["dash", "-c", note], capture_output=True, check=True).stdout)
        listed.write_text(after)
        subprocess.run(["dash", "-euc", before, "undo", str(kept)], check=True)
        assert copy.read_text() == expected


def test_what_is_not_there_is_no_component() -> None:
    def only(text: str, to: str = "") -> tuple[str, ...]:
        return _only(argparse.Namespace(only=text, to=to))

    assert only("") == ("postgres", "gateway", "caddy", "llama_cpp")
    assert only("caddy, gateway") == ("gateway", "caddy") and only("", "0.3.37") == ("llama_cpp",)
    with pytest.raises(UsageError, match="--only nginx: there is caddy, gateway, llama_cpp, postgres"):
        only("caddy,nginx")
    with pytest.raises(UsageError, match=r"--to is a version of llama\.cpp"):
        only("caddy", "0.3.37")

"""When what left the inventory leaves its host: at once, with a role's files, or last."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from resources import Container, Directory, File, Link, Package, Port, Release, Resource, Service, Stack, expand, scripts
from resources.drift import Drift, drift
from resources.leaving import AT_ONCE, LAST
from resources.probe import Actual

OLD = {
    "user:llama-server": "put",
    "directory:/etc/paddock/llama-server": "put",
    "file:/etc/paddock/llama-server/presets.ini": "put",
    "package:libgomp1": "put",
    "release:/opt/paddock/llama.cpp/current": "put",
    "file:/etc/systemd/system/llama-server.service": "put",
    "directory:/etc/systemd/system/llama-server.service.d": "put",
    "file:/etc/systemd/system/llama-server.service.d/50-paddock.conf": "put",
    "service:llama-server.service": "put",
}
"""What the manifest of a host has that served, and is to serve no more."""

RELEASE = Release("/opt/releases/1-a", "/opt/current", "1", "a", "sdist", (), (), ())
DIRECTORY = Directory("/etc/caddy/paddock", exclusive=True)
SITES = File("/etc/caddy/paddock/sites.caddy", "new")
CADDY = Service("caddy.service", reloads=(DIRECTORY, SITES), ports=(Port(443, ("0.0.0.0",), "caddy.service"),))
PROXY = {"caddy": (DIRECTORY, SITES, CADDY)}
GUARD = {"firewall": (File("/etc/paddock/firewall/paddock.nft", "new"),)}
RUNS = {CADDY.id: {"active": "active"}}


def found(
    plan: Mapping[str, Sequence[Resource]], manifest: Mapping[str, str], actual: Mapping[str, Mapping[str, str]] = RUNS, guards: str = ""
) -> Drift:
    whole: dict[str, list[Resource]] = {role: [] for role in plan}
    for role, each in expand((role, each) for role, part in plan.items() for each in part):
        whole[role].append(each)
    return drift(whole, Actual(actual, manifest=manifest), guards=[guards] if guards else [])  # type: ignore[arg-type]


def stages(of: Drift) -> dict[str, str]:
    return {change.id: change.stage for change in of.changes if change.action == "remove"}


@pytest.mark.parametrize("plan", [{}, {"base": (Package("curl"),)}, PROXY])
def test_a_server_that_left_stays_to_the_last_with_all_that_it_may_use(plan: Mapping[str, Sequence[Resource]]) -> None:
    assert stages(found(plan, OLD)) == dict.fromkeys(OLD, LAST)


def test_what_was_no_server_leaves_at_once() -> None:
    manifest = {"file:/etc/paddock/gpu/x.sh": "put", "service:paddock-watchdog.timer": "put", "package:jq": "put"}
    assert stages(found(PROXY, manifest)) == dict.fromkeys(manifest, AT_ONCE)


def test_a_server_under_another_name_begins_once_the_old_one_has_left_its_port() -> None:
    new = Service("small.service", restarts=(RELEASE,), ports=(Port(8080, ("0.0.0.0",), "small.service"),))
    left = found({"llama_server": (RELEASE, new)}, OLD, {"port:8080/tcp": {"addresses": "0.0.0.0", "unit": "llama-server.service"}})
    assert set(stages(left).values()) == {AT_ONCE}


PUBLISHED = Port(4000, ("127.0.0.1",), "docker.service")
STACK = Stack("web", "/etc/paddock/stacks/web", (Container("page", "image", "5eed"),), ports=(PUBLISHED,))
NATIVE = Service("web.service", ports=(replace(PUBLISHED, unit="web.service"),))


@pytest.mark.parametrize(
    ("new", "left", "holder"), [(STACK, "service:web.service", "web.service"), (NATIVE, "stack:web", "docker.service")]
)
def test_what_changes_from_a_unit_to_a_container_or_back_gives_up_its_port_first(new: Resource, left: str, holder: str) -> None:
    on = {PUBLISHED.id: {"addresses": "127.0.0.1", "unit": holder}}
    assert stages(found({**PROXY, "web": (new,)}, {**OLD, left: "put"}, {**RUNS, **on}))[left] == AT_ONCE


def test_a_stack_that_left_goes_last_where_another_has_its_own_port() -> None:
    on = {PUBLISHED.id: {"addresses": "127.0.0.1", "unit": "docker.service"}}
    assert stages(found({"web": (STACK,)}, {**OLD, "stack:old": "put"}, on))["stack:old"] == LAST


def test_two_servers_of_one_host_are_never_there_together_for_its_memory_has_room_for_one() -> None:
    new = Service("small.service", restarts=(RELEASE,), ports=(Port(8081, ("0.0.0.0",), "small.service"),))
    assert set(stages(found({"llama_server": (RELEASE, new)}, OLD)).values()) == {AT_ONCE}


@pytest.mark.parametrize("name", ["paddock-caddy-tunnel-far.8080", "paddock-caddy-tunnel"])
def test_what_leads_the_proxy_elsewhere_goes_last_where_there_is_no_room_for_a_server_either(name: str) -> None:
    new = Service("small.service", restarts=(RELEASE,), ports=(Port(8081, ("0.0.0.0",), "small.service", reachable_from=("front",)),))
    hop = {f"file:/etc/systemd/system/{name}.service": "put", f"service:{name}.socket": "put", f"service:{name}.service": "put"}
    left = found({**GUARD, "llama_server": (RELEASE, new), **PROXY}, {**OLD, **hop}, guards="firewall")
    assert not left.late, "the new port would be open meanwhile"
    assert {id: stage for id, stage in stages(left).items() if id in hop} == dict.fromkeys(hop, LAST)
    assert stages(left)["service:llama-server.service"] == AT_ONCE


def test_a_server_goes_last_beside_another_that_runs_on() -> None:
    port = Port(8081, ("0.0.0.0",), "small.service")
    new = Service("small.service", restarts=(RELEASE,), ports=(port,))
    runs = {each.id: dict(each.desired) for each in (RELEASE, new, new.stamp, Directory(new.dropins), port)}
    assert set(stages(found({"llama_server": (RELEASE, new)}, OLD, runs)).values()) == {LAST}


def test_a_port_that_is_to_be_anothers_is_given_up_at_once_and_what_else_left_may_wait() -> None:
    manifest = {**OLD, "service:other.service": "put", "file:/etc/systemd/system/other.service": "put"}
    taken = {**RUNS, "port:443/tcp": {"addresses": "0.0.0.0", "unit": "other.service"}}
    at_once = {name for name, stage in stages(found(PROXY, manifest, taken)).items() if stage == AT_ONCE}
    assert at_once == {"service:other.service"}


def test_what_lies_in_a_directory_that_a_service_reads_leaves_just_before_it_reads_it() -> None:
    manifest = {**OLD, "file:/etc/caddy/paddock/ai.admin": "put", "file:/etc/caddy/paddock/old.caddy": "put"}
    left = found(PROXY, manifest)
    assert left.leaving("caddy") == ["file:/etc/caddy/paddock/old.caddy", "file:/etc/caddy/paddock/ai.admin"]
    assert sorted(left.gone) == sorted([*left.leaving(AT_ONCE), *left.leaving("caddy"), *left.leaving(LAST)])


def test_what_a_service_that_stays_may_read_never_waits() -> None:
    files = ("file:/etc/systemd/system/caddy.service.d/10-old.conf", "file:/etc/sysctl.d/90-old.conf", "line:/etc/hosts: 192.0.2.1 old")
    left = stages(found(PROXY, {**OLD, **dict.fromkeys(files, "put")}))
    assert [left[name] for name in files] == [AT_ONCE] * 3


@pytest.mark.parametrize(
    ("gone", "wanted"),
    [
        ("directory:/opt/x", Link("/opt/x", "/srv")),
        ("file:/opt/x", Directory("/opt/x")),
        ("file:/opt/x", File("/opt/x/y", "")),
        ("file:/opt/x/y", File("/opt/x", "")),
        ("link:/opt/x/y", Link("/opt/x", "/srv")),
    ],
)
def test_what_stands_in_the_way_of_a_path_leaves_at_once(gone: str, wanted: Resource) -> None:
    assert stages(found({**PROXY, "base": (wanted,)}, {**OLD, gone: "put"}))[gone] == AT_ONCE


def test_rules_guard_a_port_for_as_long_as_its_server_stays() -> None:
    left = found({**GUARD, **PROXY}, OLD, guards="firewall")
    assert (left.late, set(stages(left).values())) == ({"firewall"}, {LAST})
    assert not found({**GUARD, **PROXY}, {}, guards="firewall").late


def test_where_rules_are_to_guard_a_new_port_nothing_waits() -> None:
    admin = Service("admin.service", ports=(Port(8079, ("0.0.0.0",), "admin.service", reachable_from=("front",)),))
    left = found({**GUARD, "admin": (admin,)}, OLD, guards="firewall")
    assert (left.late, set(stages(left).values())) == (frozenset(), {AT_ONCE})


def test_nor_where_a_server_that_runs_changes_to_a_new_port() -> None:
    admin = Service("admin.service", ports=(Port(8079, ("0.0.0.0",), "admin.service", reachable_from=("front",)),))
    runs = {"service:admin.service": {**admin.desired, "active": "active"}}
    left = found({**GUARD, "admin": (admin,)}, {**OLD, "service:admin.service": "put"}, {**RUNS, **runs}, guards="firewall")
    assert [change.action for change in left.changes if change.id == admin.id] == ["restart"]
    assert (left.late, set(stages(left).values())) == (frozenset(), {AT_ONCE})


def test_packages_leave_with_their_configuration_and_databases_stay(tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    (tmp_path / "apt-get").chmod(0o755)
    run = f"set -eu; exec 9>/dev/null; {scripts()}\npackages_leave caddy postgresql postgresql-17 postgresql-common libpq5; packages_leave"
    subprocess.run(["sh", "-c", run], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    asked = [line.partition(" -y ")[0] for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == ["remove postgresql-17 postgresql-common", "purge caddy postgresql libpq5"]

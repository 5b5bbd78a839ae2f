"""What a host's machine was when somebody looked last, and what it is now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

import control.deployment.survey as module
from control.deployment.deployment import Deployment
from control.state.fleet import FleetState
from control.state.lock import Holder
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from resources.lease import Lease
from resources.owner import Owner
from resources.probe import Actual

THEN = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), 2, 15900, "debian 13", identity="then")
NOW = replace(THEN, identity="now", addresses={"eth1": ("192.0.2.1",)})
SERVING = {"base": {"time": "elsewhere"}, "llama_cpp": {}, "models": {}, "llama_server": {"listen": "eth1:8080", "models": ["demo"]}}


@pytest.mark.parametrize(
    ("machine", "why"), [(NOW, ""), (replace(NOW, addresses={}), "has no interface eth1"), (THEN, "has no interface eth1")]
)
def test_a_host_without_a_plan_is_looked_at_anew_where_it_is_another_machine_by_now(
    state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch, machine: Hardware, why: str
) -> None:
    host = {"name": "pea", "address": "192.0.2.1", "roles": SERVING}
    fleet = fleet_of(hosts={"pea": host}, models={"demo": {}})
    state.save_hardware("pea", THEN)
    clock = int(datetime.now(UTC).timestamp())
    actual = Actual(clock=clock, identity=machine.identity)
    monkeypatch.setattr(module, "probe", lambda run, resources, *, deep=False: dict.fromkeys(resources, actual))
    monkeypatch.setattr(module, "hardware", lambda run, names: dict.fromkeys(names, machine))
    deployment = Deployment(fleet, state, tuple(fleet.hosts.values()), looks=True)
    deployment.survey()
    assert list(deployment.work) == ([] if why else ["pea"])
    assert why in deployment.failures.get("pea", "")
    assert state.hardware("pea") == machine


ANNA, BEN = Holder("a" * 16, "anna@desk", "up"), Holder("b" * 16, "ben@lap", "up")
AT_WORK = Lease(ANNA.run, 60, 100, "up", "anna@desk")
OFFICE = Owner("office", "c" * 16, datetime(2026, 3, 1, tzinfo=UTC))


@pytest.fixture
def look(state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Deployment]:
    """A deployment that has looked at its host, where a run is at work."""
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.1", "roles": {"base": {"time": "elsewhere"}}}})

    def looked(owner: Owner | None = None, **how: Any) -> Deployment:
        state.save_hardware("pea", THEN)
        actual = Actual(clock=int(datetime.now(UTC).timestamp()), identity=THEN.identity, owner=owner, lease=AT_WORK)
        monkeypatch.setattr(module, "probe", lambda run, resources, *, deep=False: dict.fromkeys(resources, actual))
        monkeypatch.setattr(module, "revoked_there", lambda run, names: {})
        deployment = Deployment(fleet, state, tuple(fleet.hosts.values()), **how)
        deployment.survey()
        return deployment

    return looked


def test_a_run_that_would_change_hosts_ends_where_another_is_at_work(look: Callable[..., Deployment]) -> None:
    with pytest.raises(PaddockError, match="fleet home: pea: locked by anna@desk since "):
        look(holder=BEN)
    with pytest.raises(PaddockError, match="fleet home: pea: locked by anna@desk since "):
        look(OFFICE, holder=BEN, takes_over=True)


@pytest.mark.parametrize(
    "how", [{"looks": True}, {}, {"holder": replace(BEN, steals=True)}, {"holder": replace(BEN, ended=(ANNA.run,))}, {"holder": ANNA}]
)
def test_a_look_a_revocation_a_thief_and_who_knows_that_it_is_dead_go_on(look: Callable[..., Deployment], how: dict[str, Any]) -> None:
    assert look(**how).work.keys() == {"pea"}


def test_another_fleets_run_on_its_own_host_stops_nobody_elsewhere(look: Callable[..., Deployment]) -> None:
    deployment = look(OFFICE, holder=BEN)
    assert "belongs to fleet office" in deployment.failures["pea"]

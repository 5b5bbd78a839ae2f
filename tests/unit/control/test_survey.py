"""What a host's machine was when somebody looked last, and what it is now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import control.deployment.deployment as module
from control.deployment.deployment import Deployment
from control.state.fleet import FleetState
from inventory.fleet import Fleet
from inventory.hardware import Hardware
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

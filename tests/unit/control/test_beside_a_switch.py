"""A run on a host on which a switch waits for its confirmation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

import control.deployment.survey as module
from control.deployment.deployment import Deployment
from control.state.fleet import FleetState
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from resources.guard import Guard, Waiting
from resources.probe import Actual

MACHINE = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), 2, 15900, "debian 13", identity="this")
SERVING = {"base": {"time": "elsewhere"}, "llama_cpp": {}, "models": {}, "llama_server": {"models": ["demo"]}}


@pytest.fixture
def deployment(state: FleetState, fleet_of: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Deployment:
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.1", "roles": SERVING}}, models={"demo": {}})
    state.save_hardware("pea", MACHINE)
    actual = Actual(clock=int(datetime.now(UTC).timestamp()), identity="this", waiting=Waiting("run-0", "the switch", 60))
    monkeypatch.setattr(module, "probe", lambda run, resources, *, deep=False: dict.fromkeys(resources, actual))
    monkeypatch.setattr(module.beside, "taken", lambda work: ())
    return Deployment(fleet, state, tuple(fleet.hosts.values()))


def test_it_is_told_what_waits_before_anything_is_done(deployment: Deployment) -> None:
    deployment.survey(fit=True)
    assert deployment.work == {}
    assert deployment.failures["pea"].startswith("the switch waits for its confirmation, and is taken back at ")


def test_who_only_looks_sees_the_rest_too(deployment: Deployment) -> None:
    deployment.looks = True
    deployment.survey(fit=True)
    assert list(deployment.work) == ["pea"] and not deployment.failures


def test_the_same_switch_goes_on(deployment: Deployment) -> None:
    deployment.guard = lambda work: Guard("run-0", 300)
    deployment.survey(fit=True)
    assert list(deployment.work) == ["pea"] and not deployment.failures

"""Hosts with a model in common restart their servers one after another, and others at the same time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from control.deployment.turns import turns
from control.deployment.work import Turn, Work
from inventory.fleet import Fleet
from resources import Service
from resources.base import Action
from resources.drift import Change, Drift
from resources.probe import Actual

DRAINED = Service("llama-server.service", drains=True)


def work(action: Action = "restart", service: Service = DRAINED) -> Work:
    changes = (Change(action, "~", "llama_server", service.id, service),)
    return Work({}, Actual(), Drift(changes, (), {}, {}, True))


def fleet(**models: tuple[str, ...]) -> Fleet:
    """Hosts, each with a server of these models."""
    servers = {host: (SimpleNamespace(unit=DRAINED.unit, models=of),) for host, of in models.items()}
    return cast(Fleet, SimpleNamespace(servers=lambda host: servers.get(host, ())))


def numbers(works: dict[str, Work], fleet: Fleet) -> dict[str, int]:
    return {host: of.get("llama_server", Turn()).number for host, of in turns(works, fleet).items()}


def test_hosts_with_a_model_in_common_take_turns_and_others_do_not_wait() -> None:
    works = {host: work() for host in ("a", "b", "c", "d", "door")}
    of = fleet(a=("chat",), b=("code", "chat"), c=("code",), d=("sql",))
    assert numbers(works, of) == {"a": 0, "b": 1, "c": 0, "d": 0, "door": 0}
    assert {each.of for of_host in turns(works, of).values() for each in of_host.values()} == {2}, "all hosts go through the same"


@pytest.mark.parametrize("other", [work("put"), work("reload"), work(service=replace(DRAINED, drains=False))])
def test_who_is_not_restarted_or_not_waited_for_has_no_turn(other: Work) -> None:
    assert turns({"a": work(), "b": other}, fleet(a=("chat",), b=("chat",))) == {"a": {}, "b": {}}

"""`paddock secrets rotate NAME`: another value of what Paddock made, and what is restarted by it."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from control.state.api_keys import made_by_paddock, new_key
from inventory.knowledge import Knowledge
from resources import Resource, Service, of_kind
from roles.host_plan import host_plan
from tests.unit.cli.test_secrets_verbs import Paddock, paddock
from tests.unit.roles import everything

__all__ = ["paddock"]

WITH_KEYS = """\
fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
      llama_server: {models: [chat], api_key: true}
      gateway:
models:
  chat:
"""


@pytest.fixture
def keys(paddock: Paddock, tmp_path: Path) -> Paddock:
    (tmp_path / "home.yml").write_text(WITH_KEYS)
    assert paddock("secrets", "set", "api-key.ai", stdin="the-one-before")[0] == 0
    return paddock


def test_another_value_is_made_and_sealed_and_not_shown(keys: Paddock) -> None:
    code, out, told = keys("secrets", "rotate", "api-key.ai", "--yes")
    made = keys("secrets", "show", "api-key.ai")[1].strip()
    assert code == 0 and made != "the-one-before" and len(made) > 40
    assert made not in out + told and "`paddock up` lands it" in told


def test_where_nobody_can_be_asked_nothing_changes(keys: Paddock) -> None:
    code, _, told = keys("secrets", "rotate", "api-key.ai")
    assert code == 2 and "--yes" in told
    assert keys("secrets", "show", "api-key.ai")[1].strip() == "the-one-before"


def test_a_secret_that_paddock_does_not_make_is_refused_with_the_nearest_name(keys: Paddock) -> None:
    code, _, told = keys("secrets", "rotate", "api-key.a", "--yes")
    assert code == 1 and 'did you mean "api-key.ai"?' in told and "`paddock secrets set`" in told


def test_what_data_are_kept_with_is_not_replaced(keys: Paddock) -> None:
    code, _, told = keys("secrets", "rotate", "gateway-pepper", "--yes")
    assert code == 1 and "no key that was made at a gateway would be known any more" in told


def test_what_is_made_has_more_than_128_random_bits() -> None:
    made = [new_key() for _ in range(50)]
    assert len(set(made)) == 50
    assert {len(base64.urlsafe_b64decode(each.removeprefix("sk-") + "=")) for each in made} == {32}


def test_a_new_value_restarts_what_uses_it_and_nothing_else() -> None:
    """On each host of a fleet with every role."""
    fleet = everything.fleet()
    known = everything.context(fleet)
    restarted = {
        name: _restarted(
            _plans(known), _plans(replace(known, secrets={**known.secrets, name: "sk-another-of-a-server-or-of-a-seat-or-of-users"}))
        )
        for name in made_by_paddock(fleet)
    }
    assert restarted["gateway-master.lobby"] == {"lobby": {"paddock-gateway.service"}}
    assert restarted["admin.box"] == {"box": {"paddock-admin.service"}, "door": {"caddy.service"}}
    assert all(hosts.keys() <= {"lobby"} for name, hosts in restarted.items() if name.startswith(("user.", "gateway")))


def _plans(known: Knowledge) -> dict[str, list[Resource]]:
    fleet = everything.fleet()
    return {name: [each for part in host_plan(host, fleet, known).values() for each in part] for name, host in fleet.hosts.items()}


def _restarted(before: dict[str, list[Resource]], after: dict[str, list[Resource]]) -> dict[str, set[str]]:
    """By host the services whose start reads something else by then."""
    found = {}
    for host, resources in before.items():
        old = {each.id: each.desired for each in of_kind(resources, Service)}
        if differing := {each.name for each in of_kind(after[host], Service) if old[each.id] != each.desired}:
            found[host] = differing
    return found

"""A host's llama-servers: a router that holds one model at a time, and instances beside it that ask for a key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=3)

ROUTER = """
fleet: routes
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        models: [small, large]
        models_max: 1
        preset: {ctx-size: 512, jinja: true, flash-attn: on, cache-type-k: q8_0, cache-type-v: q8_0}
models:
  small: {}
  large: {preset: {ctx-size: 1024, temp: 0.5}}
"""

FIXED = """        instances: {fixed: {model: small, count: 2, listen: '127.0.0.1:8090', preset: {ctx-size: 768, metrics: false}}}
        api_key: true
"""
KEYED = ROUTER.replace("        preset:", f"{FIXED}        preset:")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("routes")
    with lab_fleet("routes", tmp_path_factory.mktemp("routes"), ROUTER, ready=True) as fleet:
        fleet.up()
        yield fleet


def ask(fleet: LabFleet, path: str, body: dict[str, Any] | None = None, port: int = 8080, key: str = "") -> Any:
    data = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
    bearer = f"-H 'Authorization: Bearer {key}'" if key else ""
    return json.loads(fleet.on("ai", f"curl -sS {bearer} {data} http://127.0.0.1:{port}{path}"))


def listed(fleet: LabFleet, key: str = "") -> dict[str, Any]:
    return {each["id"]: each["status"] for each in ask(fleet, "/models", key=key)["data"]}


def becomes(fleet: LabFleet, status: dict[str, str]) -> None:
    for _ in range(100):
        found = {name: each["value"] for name, each in listed(fleet).items()}
        if found == status:
            return
        time.sleep(0.2)
    raise AssertionError(f"{found}, not {status}")


def context(fleet: LabFleet, model: str) -> int:
    """What its own worker says, not the router."""
    return int(ask(fleet, f"/props?model={model}")["default_generation_settings"]["n_ctx"])


def test_no_model_is_listed_that_nobody_declared(fleet: LabFleet) -> None:
    assert set(listed(fleet)) == {"small", "large"}


def test_loading_the_second_model_unloads_the_first_and_each_has_its_own_context(fleet: LabFleet) -> None:
    for model, other, size in (("small", "large", 512), ("large", "small", 1024)):
        answer = ask(fleet, "/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 4})
        assert answer["model"] == model
        becomes(fleet, {model: "loaded", other: "unloaded"})
        assert context(fleet, model) == size


def test_an_account_that_is_not_there_is_told_before_anything_is_touched(fleet: LabFleet) -> None:
    fleet.write(ROUTER.replace("models_max: 1", "models_max: 1\n        user: ghost"))
    for verb in (("plan", "--lab"), ("up", "--lab", "--yes")):
        failed = fleet.paddock(*verb)
        assert failed.returncode == 1
        assert failed.stderr.startswith("ai: roles.llama_server.user: there is no account ghost on this host: make it"), failed.stderr
    assert ask(fleet, "/health") == {"status": "ok"}


def test_with_a_key_only_who_knows_it_is_answered_by_router_and_instances_alike(fleet: LabFleet) -> None:
    fleet.write(KEYED)
    fleet.up()
    key = fleet.paddock("secrets", "show", "--lab", "api-key.ai").stdout.strip()
    assert len(key) > 40
    for port in (8080, 8090, 8091):
        question = {"model": "small", "prompt": "Hello", "max_tokens": 4}
        assert ask(fleet, "/v1/completions", question, port)["error"]["code"] == 401
        assert ask(fleet, "/v1/completions", question, port, key)["choices"]
    assert key not in fleet.on("ai", "pgrep -a llama-server")
    assert fleet.on("ai", "stat -c '%U %a' /etc/paddock/llama-server/api-key.env").strip() == "root 600"


def test_an_instance_says_its_models_name_and_has_the_context_that_is_its_own(fleet: LabFleet) -> None:
    key = fleet.paddock("secrets", "show", "--lab", "api-key.ai").stdout.strip()
    assert [each["id"] for each in ask(fleet, "/v1/models", port=8091, key=key)["data"]] == ["small"]
    assert ask(fleet, "/props", port=8091, key=key)["default_generation_settings"]["n_ctx"] == 768


def test_what_leaves_the_inventory_ends(fleet: LabFleet) -> None:
    fleet.write(KEYED.replace("count: 2, ", ""))
    fleet.up()
    units = fleet.on("ai", "systemctl list-units --plain --no-legend 'llama-server*' | cut -d' ' -f1").split()
    assert units == ["llama-server-fixed.service", "llama-server.service"]
    assert fleet.on("ai", "ss -Hltn 'sport = :8091'") == ""


def test_two_that_change_places_do_so_in_one_run(fleet: LabFleet) -> None:
    def placed(one: int, other: int) -> str:
        fixed = "{{model: small, listen: '127.0.0.1:{port}', preset: {{ctx-size: {size}}}}}"
        both = f"one: {fixed.format(port=one, size=512)}, other: {fixed.format(port=other, size=1024)}"
        return ROUTER.replace("        preset:", f"        instances: {{{both}}}\n        preset:")

    for one, other in ((8090, 8091), (8091, 8090), (8092, 8091)):
        fleet.write(placed(one, other))
        fleet.up()
        sizes = [ask(fleet, "/props", port=port)["default_generation_settings"]["n_ctx"] for port in (one, other)]
        assert sizes == [512, 1024]


def test_a_preset_that_the_release_refuses_leaves_what_serves_as_it_was(fleet: LabFleet) -> None:
    """`check` does not know how a range of processors is written: the release that serves is asked."""
    fleet.write(ROUTER)
    fleet.up()
    seen = "systemctl show -P InvocationID llama-server; sha256sum /etc/paddock/llama-server/presets.ini; curl -fsS 127.0.0.1:8080/health"
    before = fleet.on("ai", seen)
    fleet.write(ROUTER.replace("temp: 0.5", "temp: 0.5, cpu-range: sometimes"))
    failed = fleet.paddock("up", "--lab", "--yes")
    assert failed.returncode == 1, failed.stdout
    assert "does not take what is declared, so it serves on as it was: flags: llama-server.service, section [large]" in failed.stderr
    assert fleet.on("ai", seen) == before
    fleet.write(ROUTER)
    assert "0 changed" in fleet.up().stdout

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from control.deployment.knowledge import knowledge_for
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import TO_BE_ISSUED, ModelDigest

PEA = Hardware("aarch64", "Cortex-A76", frozenset({"asimd"}), 4, 8192, "debian 12")


def test_of_a_new_fleet_nothing_is_known_and_nothing_is_made(fleet: Fleet, state: FleetState, now: datetime) -> None:
    knowledge = knowledge_for(fleet, state, now=now)
    assert knowledge.ca == TO_BE_ISSUED
    assert not (knowledge.hardware or knowledge.servers or knowledge.secrets)
    assert {each.chain for each in knowledge.clients.values()} == {TO_BE_ISSUED}
    assert not state.path.exists()


def test_what_is_kept_is_known(authority: Authority, vault: Vault, fleet: Fleet, state: FleetState, now: datetime) -> None:
    authority.issue(fleet, now)
    vault.set("token", "hidden")
    state.save_hardware("pea", PEA)
    state.save_hardware("gone", PEA)
    knowledge = knowledge_for(fleet, state, now=now)
    assert knowledge.ca == authority.bundle()
    assert knowledge.hardware == {"pea": PEA}
    assert sorted(knowledge.clients) == ["laptop", "phone"]
    assert knowledge.secrets["token"] == "hidden"
    assert "hidden" not in repr(knowledge)
    assert "PRIVATE KEY" not in repr(knowledge)


def test_a_models_digest_comes_from_the_inventory(fleet_of: Callable[..., Fleet], state: FleetState, now: datetime) -> None:
    models = {
        "big": {"source": {"path": "/models/big.gguf", "sha256": "b" * 64, "size": 7}},
        "some": {"source": {"path": "/models/some.gguf", "sha256": "c" * 64}},
    }
    known = knowledge_for(fleet_of(models=models), state, now=now).models
    assert known == {"big": ModelDigest("b" * 64, 7), "some": ModelDigest("c" * 64, 0)}


def test_a_source_tree_is_looked_for_beside_the_inventory(
    fleet_of: Callable[..., Fleet], state: FleetState, tmp_path: Path, now: datetime
) -> None:
    tree = tmp_path / "llama.cpp"
    (tree / "include").mkdir(parents=True)
    (tree / "include" / "llama.h").touch()
    (tree / "CMakeLists.txt").write_text("project(x)\n")
    roles = {"llama_cpp": {"source": {"path": "llama.cpp"}}}
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}})
    state.save_hardware("pea", PEA)
    before = knowledge_for(fleet, state, now=now).releases
    assert list(before) == ["pea"]
    (tree / "CMakeLists.txt").write_text("project(y)\n")
    assert knowledge_for(fleet, state, now=now).releases != before


def test_the_program_of_a_service_is_known_where_a_host_carries_its_role(
    fleet_of: Callable[..., Fleet], state: FleetState, now: datetime
) -> None:
    pea = {"name": "pea", "address": "192.0.2.7", "roles": {"base": {}}}
    assert knowledge_for(fleet_of(hosts={"pea": pea}), state, now=now).services == {}
    serving = {"llama_cpp": {}, "models": {}, "llama_server": {"models": ["demo"]}, "admin": {}}
    fleet = fleet_of(hosts={"pea": {**pea, "roles": serving}}, models={"demo": {}})
    known = knowledge_for(fleet, state, now=now).services
    assert list(known) == ["admin"] and {"__main__.py", "server.py", "configuration.schema.json"} <= set(known["admin"])

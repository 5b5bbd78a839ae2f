from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from control.context import context_for
from control.pki import Authority
from control.secrets import Vault
from control.state import FleetState
from inventory.context import TO_BE_ISSUED, ModelDigest
from inventory.hardware import Hardware
from inventory.schema import Fleet

PEA = Hardware("aarch64", "Cortex-A76", frozenset({"asimd"}), 4, 8192, "debian 12")


def test_of_a_new_fleet_nothing_is_known_and_nothing_is_made(fleet: Fleet, state: FleetState, now: datetime) -> None:
    context = context_for(fleet, state, now=now)
    assert context.ca == TO_BE_ISSUED
    assert not (context.hardware or context.servers or context.secrets)
    assert {each.chain for each in context.clients.values()} == {TO_BE_ISSUED}
    assert not state.path.exists()


def test_what_is_kept_is_known(authority: Authority, vault: Vault, fleet: Fleet, state: FleetState, now: datetime) -> None:
    authority.issue(fleet, now)
    vault.set("token", "hidden")
    state.save_hardware("pea", PEA)
    state.save_hardware("gone", PEA)
    context = context_for(fleet, state, now=now)
    assert context.ca == authority.bundle()
    assert context.hardware == {"pea": PEA}
    assert sorted(context.clients) == ["laptop", "phone"]
    assert context.secrets["token"] == "hidden"
    assert "hidden" not in repr(context)
    assert "PRIVATE KEY" not in repr(context)


def test_a_models_digest_comes_from_the_inventory(fleet_of: Callable[..., Fleet], state: FleetState, now: datetime) -> None:
    models = {
        "big": {"source": {"path": "/models/big.gguf", "sha256": "b" * 64, "size": 7}},
        "some": {"source": {"path": "/models/some.gguf", "sha256": "c" * 64}},
    }
    known = context_for(fleet_of(models=models), state, now=now).models
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
    before = context_for(fleet, state, now=now).releases
    assert list(before) == ["pea"]
    (tree / "CMakeLists.txt").write_text("project(y)\n")
    assert context_for(fleet, state, now=now).releases != before

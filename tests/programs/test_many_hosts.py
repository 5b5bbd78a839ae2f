"""Twice as many hosts are twice as much work. What counts is how often each line runs: seconds would depend on the machine."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cli import main
from control.pki.authority import Authority
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.load import load
from roles import wording
from roles.references import Whole
from tests.bench import inventories
from tests.bench.fleets import VERBS, prepared
from tests.wheel import ROOT

FEW, MANY, MORE = 4, 8, 12
OURS = tuple(str(ROOT / name) + "/" for name in ("cli", "control", "inventory", "resources", "roles", "templates"))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("shape", inventories.SHAPES)
def test_four_hosts_more_take_as_much_as_the_four_before(shape: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [prepared(tmp_path / str(hosts), shape, hosts) for hosts in (FEW, MANY, MORE)]
    assert not steeper(paths, verb)


def test_certificates_and_keys_of_which_half_are_missing_take_no_more_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [prepared(tmp_path / str(hosts), "guarded", hosts) for hosts in (FEW, MANY, MORE)]
    for path in paths:
        path.write_text(path.read_text().replace("llama_server:", "llama_server:\n        api_key: true"))
        fleet = load(path)
        state = FleetState.of(path, fleet.name)
        vault = Vault(state)
        Authority(state, vault).issue(fleet, datetime.now(UTC))
        api_keys.issue(fleet, vault)
        for record in sorted((state.path / "certs" / "server").glob("*.json"))[::2]:
            record.unlink()
    assert not steeper(paths, "render")


@pytest.fixture(autouse=True)
def _small_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More hosts are more groups and reverse proxies too. Neither a home nor a state of somebody's is looked at."""
    for size in ("A_GROUP", "A_DOOR"):
        monkeypatch.setattr(inventories, size, 2)
    for name in ("PADDOCK_STATE", "PADDOCK_AGE_IDENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _: None)


def steeper(paths: Sequence[Path], verb: str) -> dict[str, list[int]]:
    """The lines that run more often for the last hosts than for as many before."""
    lines_run(paths[-1], verb)  # what is loaded once is loaded
    few, many, more = (lines_run(path, verb) for path in paths)
    return {line: [few[line], many[line], more[line]] for line in more if more[line] - many[line] > many[line] - few[line]}


def lines_run(inventory: Path, verb: str) -> Counter[str]:
    """How often each line of Paddock runs, also one within an expression that loops."""
    counted: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            counted[f"{frame.f_code.co_filename}:{frame.f_lineno}"] += 1
        return trace

    sys.settrace(trace)
    try:
        code = main(["-i", str(inventory), *verb.split()])
    finally:
        sys.settrace(None)
    assert code == 0
    return counted


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that were compared with all known ones."""
    found, closest = [], wording._closest

    def noted(word: str, known: Iterable[str]) -> str:
        found.append(word)
        return closest(word, known)

    monkeypatch.setattr(wording, "_closest", noted)
    return found


def twenty(path: Path, **roles: Any) -> Path:
    """The inventory of twenty hosts whose roles stand in the defaults."""
    hosts = {f"one{number}": {"address": f"192.0.2.{number}"} for number in range(1, 21)}
    carried = {"llama_cpp": {}, "models": {}, "llama_server": {"models": ["demo"]}, **roles}
    whole = {"fleet": "home", "domain": "home.example", "defaults": {"roles": carried}, "hosts": hosts, "models": {"demo": {}}}
    path.write_text(json.dumps(whole))
    return path


@pytest.mark.parametrize(
    ("role", "settings", "meant"),
    [
        ("llama_cpp", {"builder": "on"}, "one9"),
        ("llama_server", {"models": ["dem"]}, "demo"),
        ("llama_server", {"models": ["demo"], "preset": {"ctx-sice": 2048}}, "ctx-size"),
    ],
    ids=["a host", "a model", "an option"],
)
def test_what_the_defaults_misspell_is_compared_with_all_names_once(
    role: str, settings: Any, meant: str, tmp_path: Path, compared: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-i", str(twenty(tmp_path / "inventory.yml", **{role: settings})), "check"]) == 2
    assert capsys.readouterr().err.count(f'did you mean "{meant}"?') == 1
    assert len(compared) == 1


def test_a_client_is_found_without_a_look_at_all_of_them() -> None:
    looks: list[str] = []

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            looks.append(self)
            return str.__eq__(self, other)

    whole = Whole({}, {}, tuple(Name(f"client-{number}") for number in range(100)), "home.example")
    looks.clear()
    assert whole.has_client("client-99") and not whole.has_client("client-100")
    assert len(looks) < 10

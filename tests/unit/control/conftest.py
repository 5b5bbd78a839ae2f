from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.fleet import Fleet

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with nothing in it."""
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync is for power cuts, which no test here makes; what a killed process has written stays written."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def said() -> list[str]:
    """What the person at the terminal was told."""
    return []


@pytest.fixture
def state(tmp_path: Path, said: list[str]) -> FleetState:
    return FleetState.of(tmp_path / "home.yml", "home", said.append)


@pytest.fixture
def vault(state: FleetState) -> Vault:
    return Vault(state)


@pytest.fixture
def authority(state: FleetState, vault: Vault) -> Authority:
    return Authority(state, vault)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def fleet_of() -> Callable[..., Fleet]:
    """A fleet with a Caddy for `ai.home.example` on 192.0.2.7, and whatever else is said."""

    def build(**values: Any) -> Fleet:
        caddy = {"caddy": {"sites": {"ai.home.example": {"upstream": "pea"}}}}
        given = {
            "name": "home",
            "domain": "home.example",
            "networks": ["192.0.2.0/24"],
            "hosts": {"pea": {"name": "pea", "address": "192.0.2.7", "roles": caddy}},
            "clients": {"laptop": {}, "phone": {"days": 30}},
        }
        return Fleet.model_validate({**given, **values})

    return build


@pytest.fixture
def fleet(fleet_of: Callable[..., Fleet]) -> Fleet:
    return fleet_of()

"""The hosts and plans under verification. `paddock verify` names them in a file; by hand, PADDOCK_INVENTORY names an inventory:

PADDOCK_INVENTORY=inventory/home.yml pytest tests/verify
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from control.state import FleetState
from inventory.load import load
from inventory.schema import Fleet
from roles import checks_of
from tests.verify.subject import Subject, subjects


def _asked() -> tuple[Fleet, FleetState, list[str], bool]:
    if named := os.environ.get("PADDOCK_VERIFY"):
        asked = json.loads(Path(named).read_text())
        fleet = Fleet.model_validate(asked["fleet"])
        return fleet, FleetState.of(Path(asked["inventory"]), fleet.name), asked["hosts"], asked["deep"]
    path = Path(os.environ.get("PADDOCK_INVENTORY", "inventory/demo.yml"))
    fleet = load(path)
    return fleet, FleetState.of(path, fleet.name), list(fleet.hosts), True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "resource" in metafunc.fixturenames:
        resources = [(subject, each) for subject in _known() for part in subject.plan.values() for each in part]
        metafunc.parametrize("subject, resource", resources, ids=[f"{subject.this.name}: {each.id}" for subject, each in resources])
    elif "check" in metafunc.fixturenames:
        checks = [(subject, role, check) for subject in _known() for role in subject.plan for check in _checks(role)]
        metafunc.parametrize(
            "subject, role, check", checks, ids=[f"{subject.this.name}: {role} {_words(check)}" for subject, role, check in checks]
        )


def _words(check: Callable[..., None]) -> str:
    return check.__name__.removeprefix("check_").replace("_", " ")


def _checks(role: str) -> list[Callable[..., None]]:
    return [value for name, value in vars(checks_of(role)).items() if name.startswith("check_")]


_found: list[Subject] = []


def _known() -> list[Subject]:
    if not _found:
        for subject in subjects(*_asked()):
            tried = subject.host.backend.run_ssh("true")
            if tried.rc == 255:  # ssh's own: every check would fail alike
                pytest.exit(f"ssh {subject.this.user}@{subject.this.address}: {tried.stderr.strip()}", returncode=4)
            _found.append(subject)
    return _found

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control.lifecycle.history import History
from control.lifecycle.recorded_plans import PlanData, as_data, plan_digest
from control.lifecycle.records import HostRecord, Record, RecordedChange
from control.state.fleet import FleetState
from resources import File

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

MENDED = RecordedChange("mend", "file:/etc/motd", "~", "base", {"sha256": ("1", "2")})

Run = Callable[..., Record]


@pytest.fixture
def history(state: FleetState) -> History:
    return History(state)


def plan(text: str) -> PlanData:
    return as_data({"base": (File("/etc/motd", text),)})


@pytest.fixture
def run(history: History) -> Run:
    """Keeps the record of a run of `up` that gave each of these hosts this text: `run(ai="hello")`."""

    def keep(outcome: str | None = "done", **hosts: str) -> Record:
        plans = {name: plan(text) for name, text in hosts.items()}
        done = {name: HostRecord((MENDED,), plan_digest(plans[name]), verified="yes") for name in hosts}
        ended: dict[str, Any] = {"ended": BEGAN + timedelta(seconds=72), "outcome": outcome} if outcome else {}
        kept = history.add(Record(0, "up", "anna@desk", BEGAN, "0.1.0", "/home/anna/home.yml", "ab" * 32, done, **ended))
        history.put_plans(kept.number, plans)
        return kept

    return keep

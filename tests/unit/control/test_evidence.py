"""What tells why a host has not kept a release: kept beside what was there, within bounds, and read as what anybody may have put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control.state import evidence
from control.state.evidence import keep, kept
from control.state.fleet import FleetState
from inventory.bounds import EVIDENCE, TooMuch


@pytest.fixture
def state(tmp_path: Path) -> FleetState:
    return FleetState.of(tmp_path / "home.yml", "home")


def test_what_is_kept_later_lies_beside_what_was_kept_before(state: FleetState) -> None:
    place = keep(state, "ai", "upgrade-1", {"changed": b"a\n", "llama-server.service.journal": b"one"})
    keep(state, "ai", "upgrade-1", {"llama-server.service.journal": b"two"})
    assert kept(state, "ai", "upgrade-1") == {"changed": b"a\n", "llama-server.service.journal": b"two"}
    assert {path.stat().st_mode & 0o077 for path in (place, *place.iterdir())} == {0}


def test_the_newest_are_kept_by_number_and_by_size(state: FleetState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "KEPT", 4)
    monkeypatch.setattr(evidence, "ROOM", 1000)

    def put(number: int, size: int) -> list[str]:
        place = keep(state, "ai", f"run-{number}", {"changed": bytes(size)})
        os.utime(place, (number, number))
        return sorted(path.name for path in place.parent.iterdir())

    for number in range(6):
        names = put(number, 10)
    assert names == ["ai-run-2", "ai-run-3", "ai-run-4", "ai-run-5"]
    assert put(6, 975) == ["ai-run-4", "ai-run-5", "ai-run-6"]
    assert put(7, 5000) == ["ai-run-7"]


@pytest.mark.parametrize(("host", "id"), [("../..", "x"), ("ai", "../../.."), ("ai", "x\n"), ("", ""), ("ai", "gone")])
def test_what_a_record_names_leads_nowhere_else(state: FleetState, host: str, id: str) -> None:
    keep(state, "ai", "upgrade-1", {"changed": b"a"})
    assert kept(state, host, id) == {}


def test_what_paddock_would_not_have_written_is_left_or_refused(state: FleetState) -> None:
    place = keep(state, "ai", "upgrade-1", {"changed": b"a"})
    (place / "\x1b[2J").write_text("b")
    (place / "more").mkdir()
    assert kept(state, "ai", "upgrade-1") == {"changed": b"a"}
    with (place / "large").open("wb") as file:
        file.truncate(EVIDENCE.size + 1)
    with pytest.raises(TooMuch, match="has more than 16 MiB"):
        kept(state, "ai", "upgrade-1")

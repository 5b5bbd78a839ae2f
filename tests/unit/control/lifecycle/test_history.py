"""The records of runs: numbered, bounded, and told where they are damaged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.lifecycle import history as module
from control.lifecycle.history import History
from control.state.fleet import FleetState
from inventory.bounds import Bound
from inventory.errors import PaddockError, UsageError
from tests.unit.control.lifecycle.conftest import Run, plan


def test_a_record_comes_back_as_it_was_kept(history: History, run: Run) -> None:
    kept = run(ai="hello", pi="hello")
    assert history.record(kept.number) == kept
    assert history.plans(kept.number) == {"ai": plan("hello"), "pi": plan("hello")}


def test_runs_are_numbered_from_one_and_shown_newest_first(history: History, run: Run) -> None:
    assert [run(ai=text).number for text in "abc"] == [1, 2, 3]
    assert [each.number for each in history.newest(pytest.fail)] == [3, 2, 1]


def test_two_runs_at_a_time_take_different_numbers(history: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ai="first")
    monkeypatch.setattr(History, "numbers", lambda self: [])  # what the other run saw, the moment before
    assert run(ai="second").number == 2


def test_a_record_is_readable_to_its_owner_only_and_ends_with_a_line_end(state: FleetState, run: Run) -> None:
    run(ai="hello")
    path = state.path / "history" / "000001.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().endswith("}\n") and len(path.read_text().splitlines()) > 10


def test_the_last_records_are_kept_and_no_plans_without_one(
    state: FleetState, history: History, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(5):
        run(ai=str(number))
    (state.path / "history" / "000099.plans.json.gz").write_bytes(b"nobody's")
    history.drop_oldest()
    assert sorted(path.name[:6] for path in (state.path / "history").iterdir()) == ["000003"] * 2 + ["000004"] * 2 + ["000005"] * 2
    assert run(ai="next").number == 6


def test_the_oldest_plans_go_once_all_are_too_large_and_their_records_stay(
    state: FleetState, history: History, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        run(ai=str(number))
    one = (state.path / "history" / "000001.plans.json.gz").stat().st_size
    monkeypatch.setattr(module, "PLANS_KEPT", 2 * one + 20)
    history.drop_oldest()
    assert history.numbers() == [4, 3, 2, 1]
    assert [bool(history.plans(number)) for number in history.numbers()] == [True, True, False, False]


def test_files_of_others_stay_and_are_no_records(state: FleetState, history: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ai="hello")
    others = ("notes.txt", "000001.json~", "1.json", "000000001.json", "x.plans.json.gz")
    for name in others:
        (state.path / "history" / name).write_text("mine")
    monkeypatch.setattr(module, "KEPT", 0)
    history.drop_oldest()
    assert history.numbers() == []
    assert sorted(path.name for path in (state.path / "history").iterdir()) == sorted(others)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "\x00",
        '{"number": 7, "verb": "up", "who": "x", "began": "2026-03-01T12:00:00Z", "paddock": "", "inventory": "", "digest": ""}',
        '{"number": 2, "verb": "up", "who": "x", "began": "0001-01-01T00:00:00Z", "paddock": "", "inventory": "", "digest": ""}',
        '{"number": 2, "verb": "up", "who": "x", "began": "2026-03-01T12:00:00", "paddock": "", "inventory": "", "digest": ""}',
    ],
    ids=["empty", "cut", "null", "list", "no keys", "binary", "another's number", "year one", "no zone"],
)
def test_a_damaged_record_is_told_and_the_others_are_shown(state: FleetState, history: History, run: Run, text: str) -> None:
    for each in "abc":
        run(ai=each)
    path = state.path / "history" / "000002.json"
    path.write_text(text)
    told: list[str] = []
    assert [each.number for each in history.newest(told.append)] == [3, 1]
    assert len(told) == 1 and told[0].startswith(f"{path}: is damaged")
    with pytest.raises(PaddockError, match="is damaged, or was written by a newer version of Paddock"):
        history.record(2)


def test_a_newer_version_may_say_more(state: FleetState, history: History, run: Run) -> None:
    kept = run(ai="hello")
    path = state.path / "history" / "000001.json"
    path.write_text(path.read_text().replace('"verb"', '"of_a_later_version": [1], "verb"', 1))
    assert history.record(1) == kept


def test_a_number_that_no_record_has_is_answered_with_those_that_there_are(history: History, run: Run) -> None:
    with pytest.raises(UsageError, match="1: no record has this number; no run has changed anything yet"):
        history.record(1)
    run(ai="a")
    run(ai="b")
    with pytest.raises(UsageError, match="7: no record has this number; there are 1 to 2"):
        history.record(7)


def test_a_record_that_would_not_be_read_is_not_written(history: History, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCAL_FILE", Bound("a file", 512))
    with pytest.raises(PaddockError, match="the record of 1 hosts is larger than 512 bytes"):
        run(ai="hello")
    assert history.numbers() == []


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b\x08\x00", b"{}"])
def test_damaged_plans_are_told_with_what_to_do(state: FleetState, history: History, run: Run, data: bytes) -> None:
    run(ai="hello")
    path = state.path / "history" / "000001.plans.json.gz"
    path.write_bytes(data)
    with pytest.raises(PaddockError, match=f"^{path}: is damaged .*put it back from a backup or from git, or delete it$"):
        history.plans(1)


def test_a_hosts_plan_before_is_that_of_the_newest_run_that_had_all_of_it(history: History, run: Run) -> None:
    run(ai="a", pi="a")
    part = run(ai="b")
    history.replace(replace(part, hosts={"ai": replace(part.hosts["ai"], plan="")}))
    run(ai="c", pi="c")
    run(new="d", ai="d", pi="d")
    found = history.earlier(3, ["ai", "pi", "new"], pytest.fail)
    assert {host: record.number for host, record in found.items()} == {"ai": 1, "pi": 1}

"""What `make test` takes of a long list: another share with another seed, and never without one of each kind."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import share

TURN = re.compile(r"^pytestmark = turn\((\d), of=(\d)\)$", re.MULTILINE)
ITEMS = [f"{kind}{number}" for kind in "abc" for number in range(10)]


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "WHOLE", False)
    monkeypatch.setenv("PADDOCK_SEED", "2026-03-01")


def test_a_share_is_spread_over_all_that_there_is() -> None:
    assert [each[0] for each in share.spread("moments", ITEMS, 6)] == ["a", "a", "b", "b", "c", "c"]
    assert share.spread("moments", ITEMS[:3], 6) == ITEMS[:3]


def test_the_seed_chooses_and_in_the_end_everything_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share.spread("moments", ITEMS, 6) == share.spread("moments", ITEMS, 6)
    found = set()
    for day in range(60):
        monkeypatch.setenv("PADDOCK_SEED", f"day {day}")
        found |= set(share.spread("moments", ITEMS, 6))
    assert found == set(ITEMS)


def test_each_kind_is_there_whatever_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(20):
        monkeypatch.setenv("PADDOCK_SEED", f"day {day}")
        chosen = share.each_kind("faults", ITEMS, lambda item: item[0], lambda item: item[1:] if item[0] == "b" else ())
        assert {each[0] for each in chosen} == set("abc")
        assert [each for each in chosen if each[0] == "b"] == ITEMS[10:20]
        assert len(chosen) == 12


def test_a_soak_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "WHOLE", True)
    assert share.spread("moments", ITEMS, 6) == share.each_kind("faults", ITEMS, lambda item: item[0]) == ITEMS


def test_the_parts_of_a_soak_are_the_whole_and_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "WHOLE", True)
    monkeypatch.setattr(share, "PARTS", 4)
    found: list[str] = []
    for part in range(1, 5):
        monkeypatch.setattr(share, "PART", part)
        found += share.spread("moments", ITEMS, 6)
    assert sorted(found) == sorted(ITEMS)
    assert share.soaked("2/4") == (True, 2, 4) and share.soaked("1") == (True, 1, 1) and not share.soaked("")[0]
    with pytest.raises(ValueError, match="neither 1 nor a part"):
        share.soaked("5/4")


def test_of_modules_that_take_turns_each_has_its_own_and_a_soak_runs_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for day in range(40):
        monkeypatch.setenv("PADDOCK_SEED", f"day {day}")
        seen += [number for number in range(3) if share.has_its_turn(number, 3)]
    assert len(seen) == 40 and set(seen) == {0, 1, 2}
    monkeypatch.setattr(share, "WHOLE", True)
    assert share.has_its_turn(0, 3) and share.has_its_turn(1, 3)


def test_every_turn_that_modules_wait_for_comes() -> None:
    root = Path(share.__file__).parent
    found = [(path, *map(int, each)) for path in root.rglob("test_*.py") for each in TURN.findall(path.read_text())]
    assert found and all(number < of for _, number, of in found)
    assert not [path for path, *_ in found if "unit" in path.parts], "make check runs everything"
    by_turn = Counter((of, number) for _, number, of in found)
    assert all(by_turn[of, number] for _, _, of in found for number in range(of)), "a day would have none"

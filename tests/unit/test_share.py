"""What `make test` takes of a long list: another share with another seed, and never without one of each kind."""

from __future__ import annotations

import pytest

from tests import share

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

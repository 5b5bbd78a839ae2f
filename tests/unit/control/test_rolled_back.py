"""Which entry a rollback chooses, and what is said of a host that was rolled back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from control.deployment.replay import digest_of, release_of
from control.deployment.work import Work
from control.lifecycle.rollback import Kept, as_data, chosen, taken_back
from inventory.errors import PaddockError
from resources.drift import drift
from resources.history import History, Line
from resources.probe import Actual
from roles.host_plan import host_plan
from tests.unit.roles.small_fleet import Small

FIRST = Line(1, "done", datetime(2026, 11, 28, 9, 0, tzinfo=UTC), "up", "home", "0.3.34-1f0c8a2b3c4d", "ada@desk", "1" * 16)
SECOND = replace(FIRST, number=2, release="0.3.36-c1ab048204f6", digest="2" * 16)
THIRD = replace(FIRST, number=3, digest="3" * 16)


def history(*lines: Line) -> History:
    return History(lines, frozenset(each.number for each in lines))


def test_without_a_number_it_is_what_the_host_had_before() -> None:
    assert chosen(history(FIRST, SECOND)) == FIRST
    assert chosen(history(FIRST, SECOND, FIRST)) == SECOND


def test_with_a_number_it_is_that_entry() -> None:
    assert chosen(history(FIRST, SECOND, THIRD), 1) == FIRST
    begun = replace(THIRD, state="begun")
    assert chosen(history(FIRST, SECOND, begun), 2) == SECOND


@pytest.mark.parametrize(
    ("known", "to", "words"),
    [
        (history(), None, "its history is empty"),
        (history(FIRST), None, "no other configuration"),
        (history(FIRST, SECOND), 2, "entry 2 is what it has"),
        (history(FIRST, SECOND), 7, "no entry 7: it has 2, 1"),
        (history(FIRST, replace(SECOND, state="begun")), 2, "no entry 2: it has 1"),
    ],
)
def test_what_there_is_not_is_said(known: History, to: int | None, words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        chosen(known, to)


def test_the_list_says_what_is_possible() -> None:
    kept = Kept(History((FIRST, SECOND, THIRD), frozenset({1, 3})), frozenset({SECOND.release}))
    (listed,) = as_data({"ai": kept}).values()
    assert [(each["entry"], each["possible"], each["current"], each["before"]) for each in listed] == [
        (3, True, True, False),
        (2, False, False, True),
        (1, True, False, False),
    ]


def test_a_host_that_was_rolled_back_says_so_until_it_is_as_the_inventory_says() -> None:
    small = Small()
    plan = host_plan(small.fleet.hosts["one"], small.fleet, small.context)
    back = replace(FIRST, verb="rollback")

    def said(*lines: Line, fleet: str = "home") -> str:
        actual = Actual(history=history(*lines))
        return taken_back(Work(plan, actual, drift(plan, actual)), fleet)

    words = said(FIRST, SECOND, back)
    assert words.startswith("rolled back to 0.3.34-1f0c8a2b3c4d (entry 1) on 2026-11-28 09:00 UTC by ada@desk; the inventory says ")
    assert release_of(plan) in words and "`paddock up` brings that back, or change the inventory" in words
    assert said(FIRST, SECOND, replace(back, digest=digest_of(plan))) == ""
    assert said(FIRST, SECOND) == said(SECOND, replace(back, state="begun")) == said() == said(back, fleet="other") == ""

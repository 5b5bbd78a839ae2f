"""Lines of several hosts at once: what fails in one is told or raised, and nobody waits for what never comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control.ssh.reach import as_they_come  # isort: skip - first of all, for gevent
import gevent

from inventory.errors import PaddockError


def stream(*items: str, error: Exception | None = None) -> Iterator[str]:
    yield from items
    if error:
        raise error


def test_a_stream_that_fails_is_told_and_the_others_go_on() -> None:
    told: list[str] = []
    with gevent.Timeout(30):
        found = sorted(as_they_come([stream("a", error=PaddockError("ai: gone")), stream("b", "c")], told.append))
    assert (found, told) == (["a", "b", "c"], ["ai: gone"])


def test_what_nobody_foresaw_is_raised_and_not_waited_for() -> None:
    with gevent.Timeout(30), pytest.raises(ValueError, match="cut off"):
        list(as_they_come([stream("a", error=ValueError("cut off")), stream("b")], pytest.fail))

"""The share of long tests that `make test` runs: it takes another one each day, and `make soak` runs them whole.

PADDOCK_SEED chooses the share. Without it the day's date does, so that over time everything is run. PADDOCK_SOAK=1 is the whole,
PADDOCK_SOAK=2/4 the second quarter of what is spread: several machines do a long soak together, or one machine does it on several days.

A module with `pytestmark = turn(1, of=3)` runs with one seed out of three, whole: tests/layers.py leaves it out with the others. Without
that plugin pytest runs it always.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeVar

import pytest

T = TypeVar("T")


def soaked(asked: str) -> tuple[bool, int, int]:
    """Whether it is a soak, and of how many parts it is the first, second and so on."""
    if asked in ("", "0"):
        return False, 1, 1
    part, _, parts = asked.partition("/")
    if not (part.isdigit() and (parts or "1").isdigit() and 1 <= int(part) <= int(parts or "1")):
        raise ValueError(f"PADDOCK_SOAK={asked} is neither 1 nor a part such as 2/4")
    return True, int(part), int(parts or "1")


WHOLE, PART, PARTS = soaked(os.environ.get("PADDOCK_SOAK", ""))


def chance(what: str) -> random.Random:
    """What chooses `what`: the same in every run with the same seed."""
    return random.Random(f"{os.environ.get('PADDOCK_SEED') or datetime.now(UTC).date()} {what}")


def spread(what: str, items: Sequence[T], most: int) -> list[T]:
    """So many of the items, in their order, one out of each stretch of equal length; in a soak all of them, or those of its part."""
    if WHOLE:
        return list(items[PART - 1 :: PARTS])
    if len(items) <= most:
        return list(items)
    chosen, ends = chance(what), [len(items) * at // most for at in range(most + 1)]
    return [items[chosen.randrange(begin, end)] for begin, end in pairwise(ends)]


def each_kind(what: str, items: Sequence[T], *kinds_of: Callable[[T], Iterable[Hashable]]) -> list[T]:
    """Items in their order, so that each kind that any has is there at least once, by every one of `kinds_of`; in a soak all of them."""
    if WHOLE:
        return list(items)
    missing = {(by, kind) for item in items for by, of in enumerate(kinds_of) for kind in of(item)}
    chosen: set[int] = set()
    for at in chance(what).sample(range(len(items)), len(items)):
        found = {(by, kind) for by, of in enumerate(kinds_of) for kind in of(items[at])} & missing
        if found:
            chosen.add(at)
            missing -= found
    return [items[at] for at in sorted(chosen)]


def turn(number: int, *, of: int) -> pytest.MarkDecorator:
    """The mark of a module that shares its time with others: of those with the same `of`, one `number` from 0 up runs at a time."""
    return pytest.mark.turn(number, of)


def has_its_turn(number: int, of: int) -> bool:
    return WHOLE or chance(f"turns of {of}").randrange(of) == number

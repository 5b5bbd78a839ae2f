"""In which order hosts get a new release: one canary for each build class first, then waves, and never two replicas of a model at once."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from inventory.errors import UsageError

DEFAULT = "1,25%,100%"
CANARY = "canary"
"""What the first wave is called."""
SIZE = re.compile(r"([0-9]{1,6})(%?)")


@dataclass(frozen=True)
class Upgraded:
    """A host that gets another release. `build` is the fingerprint of what it gets: hosts of one build class have the same.

    `models` are those that it serves.
    """

    host: str
    build: str
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Wave:
    """Hosts that get the release one batch after another; those of one batch at the same time."""

    name: str
    batches: tuple[tuple[str, ...], ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for batch in self.batches for host in batch)


def sizes_of(text: str) -> tuple[str, ...]:
    """`1,25%,100%` → how many hosts have the release after each wave, in all. Raises UsageError for what does not rise."""
    sizes = tuple(each.strip() for each in text.split(","))
    for each in sizes:
        found = SIZE.fullmatch(each)
        if not found or int(found[1]) == 0 or (found[2] and int(found[1]) > 100):
            raise UsageError(f"--waves {text}: {each or 'nothing'} is no number of hosts and no percentage: write --waves {DEFAULT}")
    for kind in ("%", ""):
        numbers = [int(each.rstrip("%")) for each in sizes if each.endswith("%") == bool(kind)]
        if numbers != sorted(set(numbers)):
            raise UsageError(f"--waves {text}: each wave counts the hosts of those before it too, so the numbers rise: {DEFAULT}")
    return sizes


def waves(upgraded: Sequence[Upgraded], sizes: Sequence[str], at_once: int = 1) -> tuple[Wave, ...]:
    """Every host once. The canaries are a wave of their own, one after another; the last wave has all that are left, whatever its size.

    `at_once` is how many hosts may be away at a time.
    """
    replicas = {each.host: sum(bool(each.models & other.models) for other in upgraded) for each in upgraded}
    canaries: dict[str, Upgraded] = {}
    for each in upgraded:  # where somebody else serves the same, a bad canary costs least
        best = canaries.get(each.build)
        if best is None or replicas[each.host] > replicas[best.host]:
            canaries[each.build] = each
    found = [Wave(CANARY, tuple((each.host,) for each in canaries.values()))]
    left = [each for each in upgraded if each not in canaries.values()]
    done = len(canaries)
    for size in (*sizes, "100%"):
        take = max(0, _number(size, len(upgraded)) - done)
        if now := left[:take]:
            found.append(Wave(f"wave {len(found)}", tuple(_batches(now, at_once))))
            left, done = left[take:], done + len(now)
    return tuple(found)


def _number(size: str, hosts: int) -> int:
    return math.ceil(hosts * int(size[:-1]) / 100) if size.endswith("%") else min(int(size), hosts)


def _batches(upgraded: Sequence[Upgraded], at_once: int) -> Sequence[tuple[str, ...]]:
    """The first batch that a host fits in takes it."""
    batches: list[list[Upgraded]] = []
    for each in upgraded:
        fits = (batch for batch in batches if len(batch) < at_once and not any(each.models & other.models for other in batch))
        batch = next(fits, None)
        if batch is None:
            batches.append([each])
        else:
            batch.append(each)
    return [tuple(each.host for each in batch) for batch in batches]

"""What a host keeps of how fast its servers were: /var/lib/paddock/speeds, a line for each release, model and way to serve it.

0.3.36-1f0c8a2b3c4d 5d41402abc4b2a76 llama-server.service demo 1812.40 1790.00 1850.12 92.10 91.00 93.20 612 8 2026-11-29T14:45:11.123456Z
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from shlex import quote
from statistics import median

from resources.owner import TIME, time_of

SPEEDS = "/var/lib/paddock/speeds"
KEPT = 100
"""So many lines are kept."""

NUMBER = r"[0-9]{1,9}\.[0-9]{2}"
LINE = re.compile(
    r"([A-Za-z0-9._+~:-]{1,120}) ([0-9a-f]{16}) ([A-Za-z0-9@._-]{1,120}) ([A-Za-z0-9][A-Za-z0-9._-]{0,127})"
    rf" ({NUMBER}) ({NUMBER}) ({NUMBER}) ({NUMBER}) ({NUMBER}) ({NUMBER}) ([0-9]{{1,9}}) ([0-9]{{1,4}}) (\S{{27}})"
)


@dataclass(frozen=True)
class Speed:
    """Tokens a second: most likely the `middle`, between `low` and `high`."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Speed:
        return cls(median(values), min(values), max(values))

    @property
    def text(self) -> str:
        return f"{self.middle:.2f} {self.low:.2f} {self.high:.2f}"


@dataclass(frozen=True)
class Reached:
    """How fast a `release` read `prompts` of so many `tokens`, and generated, in so many `trials`. `mark` tells the way in which `unit`
    served the `model`: with another preset, another speed is nothing to wonder about."""

    release: str
    mark: str
    unit: str
    model: str
    prompts: Speed
    generation: Speed
    tokens: int
    trials: int
    at: datetime

    @property
    def key(self) -> tuple[str, str]:
        return self.release, self.mark

    @property
    def text(self) -> str:
        who, what = f"{self.release} {self.mark} {self.unit} {self.model}", f"{self.prompts.text} {self.generation.text}"
        return f"{who} {what} {self.tokens} {self.trials} {self.at.astimezone(UTC).strftime(TIME)}"


def reached_of(lines: Iterable[str]) -> tuple[Reached, ...]:
    """Out of the lines that a host keeps, which may say anything: what is no line is left out."""
    return tuple(found for each in [*lines][-KEPT:] if (found := _reached(each)))


def with_newer(kept: Iterable[Reached], newer: Iterable[Reached]) -> tuple[Reached, ...]:
    """Both, the newer in place of what is kept of the same release, model and way to serve it; the last KEPT."""
    found = {each.key: each for each in kept}
    for each in newer:
        found.pop(each.key, None)
        found[each.key] = each
    return tuple(found.values())[-KEPT:]


def expected(kept: Sequence[Reached], release: str, mark: str) -> Reached | None:
    """What a server is to be as fast as: what it reached with this release, or else with the one that was measured last."""
    same = [each for each in kept if each.mark == mark]
    own = [each for each in same if each.release == release]
    return max(own or same, key=lambda each: each.at, default=None)


def note_sh(reached: Iterable[Reached]) -> str:
    """A shell script that has a host keep this, as root, while nobody else changes the host."""
    lines = " ".join(quote(each.text) for each in reached)
    locked = "mkdir -p /run/paddock; exec 9>>/run/paddock/lock; flock -w 300 9"
    return f"set -eu; umask 022; LC_ALL=C; export LC_ALL; {locked}; at() {{ :; }}\n{_functions()}\nspeed_note {lines}\n"


@cache
def _functions() -> str:
    return Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")


def _reached(line: str) -> Reached | None:
    found = LINE.fullmatch(line)
    try:
        at = time_of(found[13]) if found else None
    except ValueError:
        return None
    if not found or not at:
        return None
    numbers = [float(each) for each in found.groups()[4:10]]
    if not all(math.isfinite(each) and each > 0 for each in numbers):
        return None
    return Reached(found[1], found[2], found[3], found[4], Speed(*numbers[:3]), Speed(*numbers[3:]), int(found[11]), int(found[12]), at)

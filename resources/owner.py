"""Whose a host is: the first line of its manifest names the fleet that changed it last, and the state that it was changed with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

MANIFEST = "/var/lib/paddock/manifest"
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
LINE = re.compile(r"fleet ([a-z0-9][a-z0-9-]{0,62}) ([0-9a-f]{16}) ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)")


@dataclass(frozen=True)
class Owner:
    """`id` tells a fleet's state from every other; `changed` is when certificates or secrets had last changed in it."""

    fleet: str
    id: str
    changed: datetime

    @property
    def line(self) -> str:
        """`fleet home 3f2a90c1d4e5b687 2026-11-29T14:45:11.123456Z`"""
        return f"fleet {self.fleet} {self.id} {self.changed.strftime(TIME)}"


UNREADABLE = Owner("", "", datetime.min.replace(tzinfo=UTC))
"""A manifest that names an owner in words that this version of Paddock cannot read: it is not nobody's."""


def owner_of(lines: Sequence[str]) -> Owner | None:
    """The owner that the lines of a manifest which begin with `fleet` name; None where there are none. A host may say anything."""
    if not lines:
        return None
    found = LINE.fullmatch(lines[0])
    try:
        return Owner(found[1], found[2], time_of(found[3])) if found and len(lines) == 1 else UNREADABLE
    except ValueError:
        return UNREADABLE


def time_of(text: str) -> datetime:
    """Raises ValueError for what `TIME` has not written."""
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)

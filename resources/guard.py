"""A switch that the host takes back by itself, unless the control machine confirms it in time, and what hosts say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
GUARD = "/var/lib/paddock/guard"
"""On a host, what it keeps of a switch that waits for its confirmation: `armed` is in it then (resources/guard.sh)."""
EVIDENCE = "/var/lib/paddock/evidence"
"""On a host, what it has collected of each switch, in a directory of its id."""


@dataclass(frozen=True)
class Guard:
    """`id` names the switch (`ID`), on all hosts of a run the same; it is taken back where nobody confirms it within `deadline_s`, counted
    from the end of the last change. `words` say what it is: `the switch from 0.3.35-1f0c to 0.3.36-8a2b`.
    """

    id: str
    deadline_s: int
    words: str = "the switch"

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id) or self.deadline_s <= 0:
            raise ValueError(f"{self.id!r}, {self.deadline_s} s: no name of a switch, or no time to confirm it")


@dataclass(frozen=True)
class Waiting:
    """A switch that waits for its confirmation on a host, for `left_s` more."""

    id: str
    words: str
    left_s: int


@dataclass(frozen=True)
class TakenBack:
    """A switch that a host has taken back: when, in seconds since 1970 by its clock, why, and the units that ran before and do not now."""

    id: str
    words: str
    at: int
    why: str
    unwell: tuple[str, ...] = ()


def waiting_of(said: Mapping[str, str]) -> Waiting | None:
    """What the probe's section `guard` says. Raises ValueError or LookupError where it makes no sense."""
    return Waiting(_id(said["id"]), said["words"], int(said["left"])) if said else None


def taken_back_of(said: Mapping[str, str]) -> TakenBack | None:
    """What an outcome says. Raises ValueError or LookupError where it makes no sense."""
    if not said:
        return None
    return TakenBack(_id(said["id"]), said["words"], int(said["at"]), said["why"], tuple(said["unwell"].split()))


def _id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError(f"{text!r} names no switch")
    return text


def waiting_words(waits: Waiting, now: datetime) -> str:
    """`the switch … waits for its confirmation, and is taken back at 14:32:10 without it`"""
    return f"{waits.words} waits for its confirmation, and is taken back at {now + timedelta(seconds=waits.left_s):%H:%M:%S} without it"


def taken_back_words(taken: TakenBack) -> str:
    """`the switch … was taken back on 2026-11-30 14:32: nobody confirmed it within 300 s`"""
    try:
        when = f"{datetime.fromtimestamp(taken.at):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        when = "a day that no calendar has"
    unwell = f"; {', '.join(taken.unwell)} does not run since" if taken.unwell else ""
    return f"{taken.words} was taken back on {when}: {taken.why}{unwell}: {EVIDENCE}/{taken.id} there says more"

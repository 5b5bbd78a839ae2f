"""What a host keeps of the configurations that it has had: a list, `log`, and the plan of each entry in a directory of its number.

    2 done 2026-11-29T14:45:11.123456Z up home 0.3.36-1f0c8a2b3c4d ada@desk 5d41402abc4b2a76

An entry is a configuration, and a line of the list says that the host got it: a rollback adds a line with an older number. A line that only
`begun` says that the run which brought the entry did not come to its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from resources.owner import TIME, time_of
from resources.steps import Steps

HISTORY = "/var/lib/paddock/history"
KEPT = 10
"""So many entries are kept."""
PACKED_MOST = 1 << 20
"""Bytes of a plan."""
LINES_MOST = 64

READ = f"[ ! -f {HISTORY}/log ] || tail -n {LINES_MOST} {HISTORY}/log | cut -c 1-400"
"""The shell script that prints the end of the list."""

LINE = re.compile(
    r"([1-9][0-9]{0,8}) (begun|done) (\S{27}) ([a-z-]{1,20}) ([a-z0-9][a-z0-9-]{0,62})"
    r" (-|[A-Za-z0-9._+~:-]{1,120}) (\S{1,120}) ([0-9a-f]{16})"
)
SPACED = re.compile(r"[^!-~]+")
"""What no word of a line can hold."""


@dataclass(frozen=True)
class Line:
    """`release` is what the host serves with the entry, `-` where nothing; `digest` tells its configuration from others."""

    number: int
    state: Literal["begun", "done"]
    at: datetime
    verb: str
    fleet: str
    release: str
    who: str
    digest: str

    @property
    def text(self) -> str:
        who = SPACED.sub("_", self.who)[:120] or "-"
        return f"{self.number} {self.state} {self.at.strftime(TIME)} {self.verb} {self.fleet} {self.release} {who} {self.digest}"


@dataclass(frozen=True)
class HostEntry:
    """What a run adds to a host's history: the entry's packed `plan`, empty where the host has it, and the entries that go for it."""

    line: Line
    plan: bytes = b""
    gone: tuple[int, ...] = ()

    def begin(self, steps: Steps) -> None:
        steps.add("history_line", replace(self.line, state="begun").text)

    def end(self, steps: Steps, *, confirmed: bool = True) -> None:
        """One that is to be `confirmed` yet is noted as done only then."""
        if self.plan:
            steps.add("history_entry", self.line.number, steps.pack(self.plan))
        if confirmed:
            steps.add("history_line", self.line.text, *self.gone)


@dataclass(frozen=True)
class HostHistory:
    """The `lines` of a host's list, the newest last, and the numbers of the `entries` whose plan it has."""

    lines: tuple[Line, ...] = ()
    entries: frozenset[int] = frozenset()

    def of(self, fleet: str) -> HostHistory:
        """What one fleet did there."""
        return HostHistory(tuple(each for each in self.lines if each.fleet == fleet), self.entries)

    @property
    def newest(self) -> Line | None:
        """What the host got last, whether or not that came to its end."""
        return self.lines[-1] if self.lines else None

    @property
    def before(self) -> Line | None:
        """What the host had before: the last line that came to its end and is of another entry. After a rollback that is the newer one."""
        return next(self._before(), None)

    def _before(self) -> Iterator[Line]:
        newest = self.newest
        for each in reversed(self.lines):
            if newest and each.state == "done" and each.digest != newest.digest:
                yield each

    @property
    def last(self) -> tuple[Line, ...]:
        """The last line of each entry that came to its end, what the host got last first."""
        found: dict[int, Line] = {}
        for each in reversed(self.lines):
            if each.state == "done":
                found.setdefault(each.number, each)
        return tuple(found.values())

    def number_for(self, fleet: str, digest: str) -> int:
        """The entry that has this configuration already, or the next number."""
        known = (each.number for each in reversed(self.lines) if each.fleet == fleet and each.digest == digest)
        return next(known, max((*self.entries, *(each.number for each in self.lines)), default=0) + 1)

    def spare(self, number: int) -> tuple[int, ...]:
        """The entries that go once the host has this one: those that it had longest ago. What it had before stays."""
        stay = [number, *(each.number for each in self.last if each.number in self.entries and each.number != number)][:KEPT]
        return tuple(sorted(self.entries - set(stay)))


def history_of(lines: Iterable[str], entries: Iterable[str]) -> HostHistory:
    """Out of the list and the names of the directories. A host may say anything: what is no line is left out."""
    found = (_line(each) for each in [*lines][-LINES_MOST:])
    numbers = (int(each) for each in [*entries][: 10 * LINES_MOST] if re.fullmatch(r"[1-9][0-9]{0,8}", each))
    return HostHistory(tuple(filter(None, found)), frozenset(numbers))


def releases_had(lines: Sequence[Line]) -> Iterator[str]:
    """The names of the releases, what the host served last first."""
    yield from dict.fromkeys(each.release for each in reversed(lines) if each.state == "done" and each.release != "-")


def listing_sh(entries: Collection[int] = ()) -> str:
    """A shell script that prints the plans of these entries, packed, as base64, a line each."""
    lines = (f"[ ! -f {HISTORY}/{each}/plan ] || head -c {PACKED_MOST + 1} {HISTORY}/{each}/plan | base64 -w0; echo" for each in entries)
    return "\n".join((*lines, "exit 0", ""))


NOTHING = HostHistory()
"""Of a host that has noted nothing."""


def _line(text: str) -> Line | None:
    found = LINE.fullmatch(text)
    try:
        at = time_of(found[3]) if found else None
    except ValueError:
        return None
    if not found or not at:
        return None
    state: Literal["begun", "done"] = "begun" if found[2] == "begun" else "done"
    return Line(int(found[1]), state, at, found[4], found[5], found[6], found[7], found[8])

"""Who is changing a host, or did so last: a lease that each run takes there, renews and gives back (resources/lease.sh)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from resources.steps import call

LASTS_S = 180
"""So long a lease holds after it was renewed last."""

RENEWED_S = 45
"""So often a run renews it: three times may fail, as while a network is away."""

WAIT_S = 300
"""So long a run waits for another's command on a host."""

WORDS_MOST = 100
"""So many characters of what a run is, and of whose, are of interest: a host may say anything."""

MARK = "paddock-lease: "
"""Before the lease of another run, where a host refuses steps."""

ID = "[0-9a-f]{16}"
LINE = re.compile(rf"({ID})\t(-?[0-9]{{1,10}})\t(-|-?[0-9]{{1,10}})\t([^\t]*)\t(.*)")

BRIEFLY_S = 2
"""So long a run waits to renew a lease, or to give it back: whatever has the lock so long is a command of its own, which renews it."""

BEGIN = """set -eu; umask 077; LC_ALL=C; export LC_ALL; at=
trap '[ $? = 0 ] || echo "paddock-at: $at" >&2' EXIT"""

Verdict = Literal["taken", "over", "dead", "stolen", "held", "changed"]
"""What comes of asking for a lease. `taken`: nobody had it; `over`: another run's had run out; `dead`: that run is known to be; `stolen`:
another run's holds; `held`: it holds, and was left alone; `changed`: another run has had it since somebody looked at the host."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

REFUSED: frozenset[Verdict] = frozenset({"held", "changed"})


@dataclass(frozen=True)
class Lease:
    """A run's, as its host told of it at `read`: `age_s` is how long ago the run took it, `left_s` for how long it holds from then on; None
    where the run has ended."""

    id: str
    age_s: int
    left_s: int | None
    verb: str
    who: str
    read: datetime = field(default_factory=lambda: datetime.now().astimezone(), compare=False)

    @property
    def holds(self) -> bool:
        return self.left_s is not None and self.left_s > 0

    @property
    def ran_out(self) -> bool:
        return self.left_s is not None and self.left_s <= 0

    @property
    def since(self) -> str:
        """`19:04`, by the clock of this machine: the host's may be wrong."""
        return clock_time(self.read - timedelta(seconds=self.age_s))

    @property
    def until(self) -> str:
        return clock_time(self.read + timedelta(seconds=self.left_s or 0))

    def as_data(self) -> dict[str, str | int]:
        return {"run": self.id, "who": self.who, "verb": self.verb, "age_s": self.age_s, "left_s": self.left_s or 0}

    def words(self) -> str:
        """What its run does to the host, or did: empty of one that ended as it should."""
        if self.holds:
            return f"{self.who} has been changing it since {self.since} ({self.verb}), with a lease until {self.until}"
        if self.ran_out:
            return f"a run of {self.who}, since {self.since} ({self.verb}), has died: its lease has run out, and the next run takes it over"
        return ""


def lease_of(line: str) -> Lease | None:
    """What a host says of its lease; None where it says nothing, or what makes no sense: the host itself does not heed that either."""
    found = LINE.fullmatch(line)
    if not found:
        return None
    id, age, left, verb, who = found.groups()
    return Lease(id, int(age), None if left == "-" else int(left), verb[:WORDS_MOST], who[:WORDS_MOST])


def clock_time(moment: datetime) -> str:
    """`19:04`; of another day with its date."""
    day = "" if moment.date() == datetime.now().astimezone().date() else f"{moment:%Y-%m-%d} "
    return f"{day}{moment:%H:%M}"


def taking(id: str, verb: str, who: str, seen: str, *, steals: bool, dead: Iterable[str]) -> str:
    """The script that takes a lease, for the standard input of a shell of root's. `seen` is the id of the one that was there when the host
    was looked at, `-` for none, `any` where nobody has looked."""
    return _script(WAIT_S, "lease_take", id, LASTS_S, verb, who, seen, "steal" if steals else "ask", *dead)


def asking() -> str:
    """The script that prints the line which `lease_of` reads, where there is one."""
    return f'{_shell("lease")}\nlease_read\n[ -z "$lease_id" ] || lease_line\n'


def renewing(id: str) -> str:
    return _script(BRIEFLY_S, "lease_renew", id, LASTS_S)


def giving_back(id: str) -> str:
    return _script(BRIEFLY_S, "lease_give", id)


def verdict_of(lines: Sequence[str]) -> tuple[Verdict, Lease | None]:
    """What `taking` has said, with the lease that was there. Raises ValueError where it makes no sense."""
    said, _, line = (lines[-1] if lines else "").partition("\t")
    other = lease_of(line)
    for each in VERDICTS:
        if said == each and (other or each not in REFUSED):
            return each, other
    raise ValueError("it does not say whose lease it has")


def lost_to(lines: Iterable[str]) -> str:
    """Where a host has refused steps of a run that has lost its lease, to whom; else nothing."""
    line = next((line.removeprefix(MARK) for line in lines if line.startswith(MARK)), "")
    other = lease_of(line)
    return taken_over(other) if other else ""


def taken_over(other: Lease) -> str:
    """Why a run has failed on a host of which another has the lease by now."""
    return f"another run has taken it over: {other.who} ({other.verb}) at {other.since}. Look what that does, then run this again"


def _script(wait_s: int, function: str, *arguments: object) -> str:
    """Fails as steps do: the last line on standard error says where."""
    lines = (BEGIN, _shell("base"), _shell("lease"), call("lease_lock", wait_s), call(function, *arguments))
    return "\n".join([*lines, ""])


def _shell(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sh").read_text(encoding="utf-8")

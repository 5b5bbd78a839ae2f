"""The leases of a run on the hosts that it changes: all of them or none, renewed as long as it lasts, given back at its end."""

from __future__ import annotations

from control.ssh.run import Run, Said, fact  # isort: skip - first of all, for gevent
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from pyinfra.api import Host as Target

from control.state.lock import Holder
from inventory.errors import PaddockError
from resources import lease
from resources.lease import Lease, Verdict
from roles.wording import one_line

TOLD: Mapping[Verdict, str] = {
    "over": "its lease had run out",
    "dead": "it was started here, and does not run any more",
    "stolen": "its lease was still valid, and --steal-lock was given",
}
"""Why the lease of another run was taken over."""


class Leases:
    """Those of one run over the hosts of a fleet; none where it has no `holder`."""

    def __init__(self, run: Run, fleet: str, holder: Holder | None) -> None:
        self.run, self.fleet, self.holder = run, fleet, holder
        self.held: set[str] = set()
        self._asked: set[str] = set()
        """Those that may have noted a lease, also where nobody has heard of it."""
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)

    @property
    def id(self) -> str:
        """Empty of a run that takes none."""
        return self.holder.run if self.holder else ""

    def require_free(self, found: Mapping[str, Lease | None]) -> None:
        """Raises PaddockError where another run has a host, as hosts say, that is not to be stolen from, and is not known to be dead."""
        if self.holder and not self.holder.steals:
            known = {self.holder.run, *self.holder.ended}
            if held := {name: each for name, each in found.items() if each and each.holds and each.id not in known}:
                raise PaddockError(refusal(self.fleet, held))

    def take(self, names: Iterable[str], seen: Mapping[str, Lease | None]) -> None:
        """Takes those that the run has not yet; `seen` has the lease of each host that was looked at, as it was then. Hosts that do not
        answer have failed.

        One host comes first, by its name, and the others at once: of two runs that begin together on the same hosts, one has all of them.
        Raises PaddockError where another run has a host, or has had it since; then none is kept.
        """
        wanted = sorted(set(names) - self.held - self.run.failures.keys()) if self.holder else []
        while wanted and not self.held:
            self._take(wanted[:1], seen)
            wanted = wanted[1:]
        self._take(wanted, seen)

    def lost(self, found: Lease | None) -> str:
        """Who has taken a host over by now, in words, as the host says; empty where nobody has."""
        return lease.taken_over(found) if self.holder and found and found.id != self.id else ""

    def give_back(self) -> None:
        """As far as hosts can be reached: what is not given back runs out."""
        self._over.set()
        if self._asked:
            self._renewer.join()  # of what it has begun: that would have the host's lock
            self.run.told(self._asked, lease.giving_back(self.id))

    def _take(self, names: list[str], seen: Mapping[str, Lease | None]) -> None:
        if not names:
            return
        holder = self.holder
        assert holder

        def ask(target: Target) -> tuple[Verdict, Lease | None]:
            before = seen.get(target.name)
            known = (before.id if before else "-") if target.name in seen else "any"
            who = one_line(holder.who).replace("\t", " ")[: lease.WORDS_MOST]
            script = lease.taking(holder.run, holder.verb, who, known, steals=holder.steals, dead=holder.ended)
            said: list[str] = fact(target, Said(), "sh -s", script)
            try:
                return lease.verdict_of(said)
            except ValueError as error:
                raise PaddockError(f"its answer makes no sense: {error}") from None

        if not self._asked:
            self._renewer.start()
        self._asked |= set(names)
        answers = self.run.of_each(names, ask)
        refused = {name: other for name, (verdict, other) in answers.items() if other and verdict in lease.REFUSED}
        self.held |= answers.keys() - refused.keys()
        if refused:
            raise PaddockError(refusal(self.fleet, refused))
        for name, (verdict, other) in answers.items():
            if other and verdict in TOLD:
                self.run.tell(name, f"taken over from {other.who}, who began to change it at {other.since} ({other.verb}): {TOLD[verdict]}")

    def _renew(self) -> None:
        while not self._over.wait(lease.RENEWED_S):
            self.run.told(frozenset(self.held), lease.renewing(self.id))


@contextmanager
def leased(run: Run, fleet: str, holder: Holder, names: Iterable[str]) -> Iterator[None]:
    """The leases of hosts that nobody has looked at before, until this ends. Raises PaddockError as `take`."""
    leases = Leases(run, fleet, holder)
    try:
        leases.take(names, {})
        yield
    finally:
        leases.give_back()


def refusal(fleet: str, held: Mapping[str, Lease]) -> str:
    """`fleet home: ai, door: locked by anna@desk since 19:04 (up; its lease lasts until 19:07, and longer if it is renewed): …`"""
    runs: dict[str, list[str]] = {}
    for name, each in held.items():
        runs.setdefault(each.id, []).append(name)
    return f"fleet {fleet}: " + "; ".join(f"{', '.join(sorted(names))}: {_why(held[names[0]])}" for names in runs.values())


def _why(other: Lease) -> str:
    if other.holds:
        lasts = f"its lease lasts until {other.until}, and longer if it is renewed"
        advice = "wait for it, or give --steal-lock if that run is dead"
        return f"locked by {other.who} since {other.since} ({other.verb}; {lasts}): {advice}. Nothing was changed"
    return f"changed by {other.who} after this run had looked at it ({other.verb}, begun at {other.since}): run it again"

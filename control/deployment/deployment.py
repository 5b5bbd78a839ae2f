"""From an inventory to hosts that are as it says: survey, issue, build, converge, look again."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from control.deployment.ahead import releases_alone
from control.deployment.builds import assigned, kept
from control.deployment.ownership import stranger
from control.deployment.payload import asks_for, payload_for, trials_for
from control.deployment.peers import offered
from control.deployment.remaining import remains, still
from control.deployment.survey import Survey
from control.deployment.turns import turns
from control.deployment.work import ADMITTING, Work, admits, changes_admission
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import ROLE
from control.pki.leaves import KINDS
from control.state import api_keys
from control.state.lineage import lineage_of, note_admission, note_change, told_hosts
from control.state.lock import admission_lock
from inventory.errors import PaddockError
from resources import Package
from resources.drift import with_newest
from resources.history import HostEntry
from resources.owner import Owner

assert control.ssh.cooperative

Changing = Callable[["Deployment", Mapping[str, Work]], None]

DEPLOYS = Path(__file__).parents[2] / "deploys"
SITE, BRING = DEPLOYS / "site.py", DEPLOYS / "bring.py"


@dataclass
class Deployment(Survey):
    """One fleet, or some of its hosts, in one run that changes them. `changing` hears what is about to be done, before any host is changed.

    With a `guard`, hosts take back by themselves what this changes, unless it is confirmed (control/deployment/guard.py): the next run then
    takes away what is old. That is no failure of this one.
    """

    verb: str = "up"
    """What hosts note of who changed them."""
    changing: Changing = lambda deployment, works: None
    _newest_owner: Owner | None = None

    def due(self, kinds: Collection[str] = KINDS) -> list[str]:
        """The certificates of these kinds, and the keys, that `issue` will make. Raises PaddockError where it would sign, and the clock
        must be wrong."""
        now = datetime.now(UTC)
        certificates = self.authority.due(self.fleet, now, self._refused, kinds=kinds)
        if certificates and not self.looks:
            self.authority.require_clock(now)
            self.require_time()
        over = self.authority.over(self.fleet, now) if certificates else []
        return [
            *(f"certificate {each}" for each in certificates),
            *(f"client {leaf.name}: {leaf.serial}, which expired on {leaf.not_after:%Y-%m-%d}, is no longer kept" for leaf in over),
            *api_keys.due(self.fleet, self.vault),
        ]

    def issue(self, kinds: Collection[str] = KINDS) -> list[str]:
        """Makes what is due, certificates of these kinds alone, and the plans anew with it, and gives a line each.

        Where no host is left, nothing is signed: if all their clocks are another time's, this machine's may be the wrong one.
        """
        lines = self.due(kinds) if self.work and not self.leaving else []
        if lines:
            now = datetime.now(UTC)
            if self.authority.issue(self.fleet, now, self._refused, kinds=kinds):
                self.authority.forget(self.authority.over(self.fleet, now))  # by the hosts' clocks, too
                self.authority.put_by(now)
            api_keys.issue(self.fleet, self.vault)
        if lines or self._is_behind():  # somebody may have revoked a certificate since the plans were made
            self.outdated()
            self._plan()
        return lines

    def converge(self) -> None:
        """Issues what is due, builds what is missing, makes the hosts so, and looks again: what still differs has failed.

        Raises PaddockError, before any of that, where another run is changing one of the hosts, or has done so since they were looked at.
        """
        self.take_leases(name for name, work in self.work.items() if work.drift)
        self.issue()
        busy = self._busy(self.work, whole=not self.part)
        turn = turns(busy, self.fleet)
        busy = {name: replace(work, turns=turn[name]) for name, work in busy.items()}
        with offered(self.run, busy, self.work, self.fleet) as asking:
            self.carry(asking)
        # Who is let in may have changed meanwhile: what follows goes by what is so now.
        self.work |= {name: self._renewed(work, name) for name, work in self.work.items() if name not in self.failures}
        again = {name: self.work[name].resources for name in busy if name not in self.failures}
        self._settle(name for name in again if any(each.starts for each in busy[name].drift.changes))
        found = self._asked(again)
        for name, actual in found.items():
            work = self._work(name, actual)
            if not self.leaving and (whose := stranger(actual.owner, self.fleet.name, self.lineage)):
                self.run.failures[name] = f"another run has changed it meanwhile: {whose}"
            elif lost := self.leases.lost(actual.lease):
                self.run.failures[name] = lost
            elif remains(work, guarded=busy[name].guard is not None):
                self.run.failures[name] = "still differs after the run: " + still(work)
        links = {name: f'basename "$(readlink {release.current})"' for name in self.failures if (release := self._release(name))}
        self._served = {name: lines[0] for name, lines in self.run.said(links, failed=True).items() if lines}
        # What this run has installed is learned now: the next one need not look a second time.
        self._learn(self._changed(found))

    def bring(self) -> None:
        """Has the releases that hosts lack built, and laid beside those that serve, which go on. What does not pass its gate has failed."""
        busy = self._busy({name: releases_alone(work) for name, work in self.work.items()}, whole=False)
        if busy:
            self.changing(self, busy)
        self.run.carry_out(BRING, busy)

    def _busy(self, works: Mapping[str, Work], *, whole: bool = True) -> dict[str, Work]:
        """The hosts with anything to do, and what it takes: who builds, what travels, whose the host is. Why a host cannot have it is told
        in `failures`."""
        busy, missing = {}, {name: work.missing for name, work in works.items()}
        there = {name: work for name, work in self.work.items() if name not in self.failures}
        where = kept(there, Artifacts(self.state))
        assignment = assigned(missing, self.fleet, self.state, self.knowledge(), there, where)
        self.run.failures.update(assignment.failures)
        wanted = {name: work for name, work in works.items() if work.drift or name in assignment.builds}
        self.take_leases(wanted)
        if any(assignment.builds.values()):
            Artifacts(self.state).key.make()  # a secret more makes the state another one, before hosts hear of it
        owner = self._owner(wanted, whole=whole or self.part in ADMITTING)
        for name, work in wanted.items():
            try:
                needs, builds = _with(work.needs, assignment.waits.get(name), name), assignment.builds.get(name, ())
                busy[name] = replace(
                    self._supplied(name, work),
                    needs=needs,
                    builds=builds,
                    owner=owner,
                    renew=partial(self._renewed, name=name),
                    guard=self.guard(work) if whole or self.part else None,
                    entry=self.entry_of(name) if whole else None,
                )
            except PaddockError as error:
                self.run.failures[name] = str(error)
        return busy

    def entry_of(self, name: str) -> HostEntry | None:
        """What the host is to keep of what it gets; None where it has just that, or nothing that rolls back."""
        return None if self.leaving or self.part else self.plans.entry(name, self.work[name].actual.history, self.verb)

    def take_leases(self, names: Iterable[str]) -> None:
        """Before hosts are changed. Raises PaddockError where another run is doing that, or has done so since they were looked at."""
        self.leases.take(names, {name: actual.lease for name, actual in self.actual.items()})

    def _settle(self, hosts: Iterable[str]) -> None:
        """Watches what was started, on all hosts at once: what dies of itself soon is seen by the look that follows."""
        started = list(hosts)
        if started and self.fleet.settle:
            self.tell(", ".join(started), f"watches what was started for {self.fleet.settle} s")
            time.sleep(self.fleet.settle)

    def _owner(self, wanted: Mapping[str, Work], *, whole: bool = True) -> Owner | None:
        """Whose these hosts are from now on, as their manifests are to say. They get all of their plans, if this is `whole`."""
        strangers = [owner.changed for name in wanted.keys() & self.strangers.keys() if (owner := self.actual[name].owner)]
        if not wanted:
            return None
        with admission_lock(self.state):
            behind = self._is_behind()
            if strangers:
                note_change(self.state, strangers)  # no other copy of the state knows that: it finds out when it comes to these hosts
            owner = told_hosts(self.state)
            if whole:
                changing = {name for name, work in wanted.items() if changes_admission(work)}
                note_admission(self.state, {name: admits(work) for name, work in wanted.items()}, changing)
                owner = told_hosts(self.state)
            self.lineage = self.lineage if behind else lineage_of(self.state)
        return owner

    def _renewed(self, work: Work, name: str) -> Work:
        """The same work with what is known now, where who is let in has changed since: another run may revoke meanwhile."""
        if self._is_behind():
            with admission_lock(self.state):
                self._newest_owner = told_hosts(self.state)
                self.lineage = lineage_of(self.state)
            self.plans.outdated()
        if self._newest_owner is None:
            return work
        plan = self._planned(self.run.hosts[name])
        return replace(work, plan=plan, drift=with_newest(work.drift, plan), owner=self._newest_owner)

    def carry_out(self, works: Mapping[str, Work]) -> None:
        """Does on each host the work that is given for it, and nothing else. Builds nothing. Raises PaddockError as `take_leases`."""
        self.take_leases(works)
        busy, owner = {}, self._owner(works, whole=False)
        for name, work in works.items():
            try:
                busy[name] = replace(self._supplied(name, work), owner=owner, renew=partial(self._renewed, name=name))
            except PaddockError as error:
                self.run.failures[name] = str(error)
        with offered(self.run, busy, self.work, self.fleet) as asking:
            self.carry(asking)

    def carry(self, work: Mapping[str, Work]) -> None:
        """Runs deploys/site.py with this work."""
        if work:
            self.changing(self, work)

        def doing(host: str, name: str) -> str:
            return ", ".join(each.id for each in work[host].wrong(Package)) if name == "packages" else name

        self.run.carry_out(SITE, work, doing)

    def _supplied(self, name: str, work: Work) -> Work:
        """With the files that travel, and where the host gets the others. Raises PaddockError."""
        payload = payload_for(work, name, self.fleet, self.state)
        asks, trials = asks_for(work, self.run.secrets), trials_for(work)
        return replace(work, payload=payload, asks=asks, trials=trials, artifacts=Artifacts(self.state), lease=self.leases.id)


def _with(needs: Mapping[str, frozenset[str]], builder: str | None, host: str) -> Mapping[str, frozenset[str]]:
    """And who compiles what the host is to serve."""
    return needs if builder in (None, host) else {**needs, ROLE: needs.get(ROLE, frozenset()) | {str(builder)}}

"""The record of a run while it runs: opened when the first thing is to change, closed with how the run ended.

A run that is killed in between leaves a record that has not ended. One that changes nothing leaves none. Where the record cannot be
written, that is told, and the run goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.lifecycle.history import History
from control.lifecycle.recorded_plans import PlanData, as_data, plan_digest
from control.lifecycle.records import HostRecord, Record, RecordedChange
from control.state.fleet import FleetState, paddock_version, read
from control.state.lock import operator
from inventory.errors import PaddockError
from resources import Release

if TYPE_CHECKING:
    from control.deployment.deployment import Deployment
    from control.deployment.work import Work

OF_INPUTS = frozenset({"started", "loaded"})
"""What services say of the digests of all that they read, secrets among it."""


class Recording:
    """`number` is the record's, None for as long as there is none. `verified` is by host how it was, as HostRecord has it, `failures` why
    hosts have failed, beside those of the deployment; `releases` what they serve in the end, where that is not what their plan says;
    `figures` what was measured, by host and name. An `outcome` that is set stands, unless an exception ends the run.
    """

    def __init__(self, state: FleetState, verb: str, tell: Callable[[str], None]) -> None:
        self.number: int | None = None
        self.verified: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.figures: dict[str, dict[str, Any]] = {}
        self.releases: dict[str, str] = {}
        self.outcome: str | None = None
        self._history, self._tell, self._told = History(state), tell, set[str]()
        self._deployment: Deployment | None = None
        self._plans: dict[str, PlanData] = {}
        self._has_new_plans = False
        self._record = Record(0, verb, operator(), _now(), paddock_version(), str(state.inventory), "")

    def opens(self, deployment: Deployment, works: Mapping[str, Work]) -> None:
        """This is what a deployment is about to do on hosts: `Deployment.changing`."""
        self._deployment = deployment
        plans = {name: as_data(work.plan) for name, work in works.items() if not work.drift.partial}
        self._keep({name: _begun(work, plans.get(name)) for name, work in works.items()})
        self._keep_plans(plans)

    def adds(self, host: str, change: RecordedChange) -> None:
        """This is about to happen on a host, by no plan."""
        known = self._record.hosts.get(host, HostRecord())
        self._keep({host: replace(known, changes=(*known.changes, change))})

    def has_evidence(self, host: str, id: str) -> None:
        """Of a host there is evidence under this id: a run that was stopped before it changed anything has a record, too."""
        self._keep({host: replace(self._record.hosts.get(host, HostRecord()), evidence=id)})

    def notes(self, words: list[str]) -> None:
        """This was done to the state."""
        self._record = replace(self._record, words=(*self._record.words, *words))
        self._keep({})

    @contextmanager
    def failing(self, host: str) -> Iterator[None]:
        """A PaddockError within is the host's, and raised on."""
        try:
            yield
        except PaddockError as error:
            self.failures[host] = str(error)
            raise

    def closes(self, outcome: str | None = None, failed: str = "") -> None:
        """The run has ended so; where nothing else is said, by what became of the hosts."""
        if not self._is_open:
            return
        self.failures = {**(self._deployment.failures if self._deployment else {}), **self.failures}
        hosts = {**self._record.hosts, **{name: HostRecord() for name in self.failures if name not in self._record.hosts}}
        newest = self._newest()
        hosts |= {name: replace(hosts[name], plan=plan_digest(plan)) for name, plan in newest.items()}
        hosts = {name: self._ended(name, host, whole=outcome is None) for name, host in hosts.items()}
        wrong = any(each.failed or each.verified == "FAILED" for each in hosts.values())
        outcome = outcome or self.outcome or ("failed" if wrong else "done")
        self._record = replace(self._record, hosts=hosts, ended=_now(), outcome=outcome, failed=failed)
        self._write(self._put)
        self._keep_plans(newest)
        self._write(self._history.drop_oldest)

    @property
    def _is_open(self) -> bool:
        return bool(self._record.digest)

    def _newest(self) -> dict[str, PlanData]:
        """The plans that are others by now: who is let in may have changed meanwhile."""
        works = self._deployment.work if self._deployment else {}
        newest = {name: as_data(works[name].plan) for name in self._plans if name in works}
        return {name: plan for name, plan in newest.items() if plan != self._plans[name]}

    def _ended(self, name: str, host: HostRecord, *, whole: bool) -> HostRecord:
        ended = replace(
            host,
            verified=self.verified.get(name, host.verified),
            failed=self.failures.get(name, ""),
            figures={**host.figures, **self.figures.get(name, {})},
        )
        if not self._deployment or not host.changes:
            return ended
        after = self._deployment.release(name) if host.plan and whole else "" if host.plan else host.before
        return replace(ended, seconds=round(self._deployment.run.seconds.get(name, 0.0), 1), after=self.releases.get(name, after))

    def _keep(self, hosts: Mapping[str, HostRecord]) -> None:
        if not self._is_open:
            self._record = replace(self._record, began=_now(), digest=_digest(Path(self._record.inventory)))
        self._record = replace(self._record, hosts={**self._record.hosts, **hosts})
        self._write(self._put)

    def _put(self) -> None:
        if self.number is None:
            self._record = self._history.add(self._record)
            self.number = self._record.number
        else:
            self._history.replace(self._record)

    def _keep_plans(self, plans: Mapping[str, PlanData]) -> None:
        self._plans |= plans
        self._has_new_plans |= bool(plans)
        if self._has_new_plans and self.number is not None:
            self._write(self._put_plans)

    def _put_plans(self) -> None:
        self._history.put_plans(self._record.number, self._plans)
        self._has_new_plans = False

    def _write(self, put: Callable[[], None]) -> None:
        try:
            put()
        except PaddockError as error:
            words = f"the run goes on, but its record is not whole: {error}"
            if words not in self._told:
                self._told.add(words)
                self._tell(words)


@contextmanager
def recording(state: FleetState, verb: str, tell: Callable[[str], None]) -> Iterator[Recording]:
    """The record of what is done within, closed at its end however it ends. `tell` hears that it cannot be written."""
    this = Recording(state, verb, tell)
    try:
        yield this
    except KeyboardInterrupt:
        this.closes("interrupted")
        raise
    except BaseException as error:
        this.closes("failed", str(error) if isinstance(error, PaddockError) else type(error).__name__)
        raise
    this.closes()


def _begun(work: Work, plan: PlanData | None) -> HostRecord:
    built = (RecordedChange("build", f"build:{each.release.name}", "+") for each in work.builds if not each.is_there)
    made = tuple(
        RecordedChange(
            change.action,
            change.id,
            change.sign,
            change.role,
            {name: value for name, value in change.told.items() if name not in OF_INPUTS} if change.sign == "~" else {},
        )
        for change in work.shown
    )
    noted = (RecordedChange("put", "manifest"),) if work.drift and not made else ()
    release = next((each for each in work.resources if isinstance(each, Release)), None)
    served = work.actual.resources.get(release.id, {}).get("current", "") if release else ""
    return HostRecord((*built, *made, *noted), plan_digest(plan) if plan is not None else "", served.rpartition("/")[2])


def _digest(inventory: Path) -> str:
    try:
        return hashlib.sha256(read(inventory) or b"").hexdigest()
    except PaddockError:
        return "unknown"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)

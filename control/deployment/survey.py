"""What there is to do on the hosts of a fleet: what each machine is, how it differs from its plan, and why some have failed."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from control.deployment import beside, clocks
from control.deployment.accounts import missing_sh, missing_words, required_accounts
from control.deployment.asking import hardware, probe, revoked_there
from control.deployment.builds import compiling, with_compilers
from control.deployment.guard import in_the_way
from control.deployment.leases import Leases
from control.deployment.ownership import refusal, stranger
from control.deployment.part import role_alone
from control.deployment.plans import Plans
from control.deployment.work import Work
from control.llama_cpp.artifacts import Artifacts
from control.pki.authority import Authority
from control.pki.revocations import lacking
from control.ssh.host_keys import pin_all
from control.ssh.links import Links
from control.ssh.run import Run
from control.state.fleet import FleetState
from control.state.lineage import lineage_of
from control.state.lock import Holder
from control.state.secrets import Secrets, Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import unsupported
from inventory.knowledge import Knowledge
from inventory.summary import warnings
from resources import Release, Resource
from resources.drift import drift
from resources.guard import Guard
from resources.probe import Actual
from roles.host_plan import HostPlan, alternatives_of, doors_of, guards_of, needs_of, refusals_of, remarks_of
from roles.server import Entrance, Server

assert control.ssh.cooperative


@dataclass
class Survey:
    """One fleet, or some of its hosts, as they are found. `ask` answers questions (a host key nobody has seen), `tell` hears what happens.

    With `leaving`, every plan is empty: what Paddock put there goes, with `data` its data too. With `deep` models and releases are read
    whole, to find what changed without a trace. One that only `looks` does without the secrets that nobody here can open. One with a
    `holder` of the fleet's lock has leases of the hosts that it changes.

    `work` is what there is to do on each host that answered; `run.failures` why the others did not. `strangers` is whose a host is, in
    words, of those that are not this state's: they have failed, unless this only `looks`, or `takes_over`.
    """

    fleet: Fleet
    state: FleetState
    hosts: tuple[Host, ...]
    tell: Callable[[str, str], None] = lambda host, line: None
    ask: Callable[[str], bool] = lambda question: False
    leaving: bool = False
    data: bool = False
    deep: bool = False
    looks: bool = False
    takes_over: bool = False
    guard: Callable[[Work], Guard | None] = lambda work: None
    part: str = ""  # the role that is to change alone, as its program gets another version
    holder: Holder | None = None
    offered: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Host → the versions of the distribution's packages that it is to have now."""
    work: dict[str, Work] = field(default_factory=dict)
    strangers: dict[str, str] = field(default_factory=dict)
    actual: dict[str, Actual] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)
    """Host → how far its clock is off this machine's, in seconds; 0 where they agree."""
    _unplanned: frozenset[str] = frozenset()
    """The hosts that can have no plan, by what was known of them when they were looked at."""
    _served: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vault = Vault(self.state, looks=self.looks)
        self.run = Run({host.name: host for host in self.hosts}, Links(self.fleet.hosts, self.state), Secrets(self.vault), self.tell)
        self.authority = Authority(self.state, self.vault)
        self.plans = Plans(self.fleet, self.state, self.vault)
        self.plans.offered = self.offered
        self.lineage = lineage_of(self.state)
        self.leases = Leases(self.run, self.fleet.name, self.holder)

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.run.failures.update(pin_all(self.hosts, self.run.links, self.ask))
        self.run.connect()
        try:
            yield
        finally:
            try:
                self.leases.give_back()
            finally:
                self.run.disconnect()

    @property
    def failures(self) -> Mapping[str, str]:
        return self.run.failures

    def knowledge(self) -> Knowledge:
        return self.plans.knowledge

    def survey(self, *, fit: bool = False) -> None:
        """Reads what each host's machine is where that is not known yet, then, in one command a host, how it differs from its plan.

        With `fit`, a host whose models cannot have the memory that they would take has failed, one without the account that is to serve,
        and one where somebody else has a port or an account of the plan: before anything there is touched. So has one that is another
        state's. Raises PaddockError where another run is changing one that is not another fleet's, unless this only `looks`.
        """
        self._learn([host.name for host in self.hosts if not self.state.hardware(host.name)])
        self._probe([host for host in self.hosts if host.name not in self.failures])
        if changed := self._changed(self.actual):
            for name in self._unplanned.intersection(changed):
                del self.run.failures[name]
            self._learn(changed)
            self._probe([host for host in self.hosts if host.name in changed and host.name not in self.failures])
        whose = {name: stranger(actual.owner, self.fleet.name, self.lineage) for name, actual in self.actual.items()}
        self.strangers = {name: words for name, words in whose.items() if words}
        if fit and not self.leaving:
            self._refuse_what_does_not_fit(self.knowledge())
        self._plan()
        answered = set(self.work)
        ours = [name for name, work in self.work.items() if self.takes_over or work.actual.owner is None or _is_of(self.fleet, work)]
        self.leases.require_free({name: self.actual[name].lease for name in ours})
        if not self.looks and not self.takes_over:
            self._refuse_strangers()
        if fit and not self.leaving:
            self._refuse_what_is_taken()
            self._refuse_missing_accounts()
            self._refuse_beside_a_switch()
        if answered != set(self.work):
            self._plan()  # without them: who compiles, and for whom, may be another matter

    def _refuse_strangers(self) -> None:
        known = revoked_there(self.run, [name for name in self.strangers if name in self.work])
        for name, whose in self.strangers.items():
            if work := self.work.pop(name, None):
                lacks = lacking(self.authority.leaves, known[name]) if name in known and _is_of(self.fleet, work) else ()
                self.run.failures[name] = refusal(name, whose, work, self.fleet.name, self.state.path, lacks)

    def _refuse_what_is_taken(self) -> None:
        """Of the hosts that are to change."""
        for name, work in list(self.work.items()):
            if work.drift and (taken := list(beside.taken(work))):
                self.run.failures[name] = "; ".join(taken)
                del self.work[name]

    def _refuse_what_does_not_fit(self, knowledge: Knowledge) -> None:
        for host in self.hosts:
            try:
                lines = list(refusals_of(host, self.fleet, knowledge))
            except PaddockError as error:
                lines = [str(error)]
            if lines:
                self.run.failures.setdefault(host.name, "; ".join(each.removeprefix(f"hosts.{host.name}: ") for each in lines))

    def _refuse_missing_accounts(self) -> None:
        """Of the hosts that are to change: on the others everything is there that the accounts own."""
        wanted = {name: dict(required_accounts(self.fleet.hosts[name])) for name, work in self.work.items() if work.drift}
        asked = {name: missing_sh(accounts) for name, accounts in wanted.items() if accounts}
        for name, missing in (self.run.said(asked) if asked else {}).items():
            for account in missing[:1]:
                self.run.failures[name] = missing_words(wanted[name][account])
                del self.work[name]

    def _refuse_beside_a_switch(self) -> None:
        for name, work in list(self.work.items()):
            if not self.looks and (words := in_the_way(work, self.guard(work))):
                self.run.failures[name] = words
                del self.work[name]

    def _changed(self, found: Mapping[str, Actual]) -> list[str]:
        """The hosts whose machine is another than it was when it was last looked at."""
        hardware = self.knowledge().hardware
        return [name for name, actual in found.items() if actual.identity != hardware[name].identity]

    def _learn(self, names: list[str]) -> None:
        if names:
            self.plans.outdated()
        for name, machine in hardware(self.run, names).items():
            if unfit := unsupported(machine):
                self.run.failures[name] = unfit
            else:
                self.state.save_hardware(name, machine)

    def _probe(self, hosts: list[Host]) -> None:
        resources: dict[str, tuple[Resource, ...]] = {}
        unplanned = {}
        for host in hosts:
            try:
                resources[host.name] = tuple(each for part in self._planned(host).values() for each in part)
            except PaddockError as error:
                resources[host.name], unplanned[host.name] = (), str(error)  # its machine may be another by now, which the probe says
        began = time.time()
        found = self._asked(resources)
        self.run.failures.update({name: why for name, why in unplanned.items() if name not in self.run.failures})
        self._unplanned = frozenset(unplanned)
        self.actual.update(found)
        self.clocks.update(clocks.compared({name: actual.clock for name, actual in found.items()}, began, time.time()))
        for name in found:
            if self.clocks[name]:
                self.run.failures[name] = clocks.refusal(self.clocks[name])

    def _asked(self, resources: Mapping[str, tuple[Resource, ...]]) -> dict[str, Actual]:
        return probe(self.run, resources, deep=self.deep)

    def _plan(self) -> None:
        answered = [host.name for host in self.hosts if host.name in self.actual and host.name not in self.failures]
        self.work = {name: self._work(name, self.actual[name]) for name in answered}
        for name in compiling(self.work, Artifacts(self.state)) & self.work.keys():
            self.work[name] = self._work(name, self.actual[name], compiles=True)

    def _work(self, name: str, actual: Actual, *, compiles: bool = False) -> Work:
        host = self.run.hosts[name]
        plan = with_compilers(self._planned(host)) if compiles else self._planned(host)
        found = drift(plan, actual, data=self.data, guards=() if self.leaving else guards_of(host))
        if self.takes_over and stranger(actual.owner, self.fleet.name, self.lineage):
            found = replace(found, recorded=False)  # also where nothing else is to change, its manifest is to say whose it is
        if self.leaving:  # nobody waits for anybody
            return Work(plan, actual, found)
        needs, alternatives = needs_of(host, self.fleet), alternatives_of(host, self.fleet)
        work = Work(plan, actual, found, needs, doors=doors_of(self.fleet), alternatives=alternatives)
        if not self.part:
            return work
        alone = role_alone(work, self.part)
        return alone if self.guard(alone) else role_alone(work, self.part, leaves=True)

    def _planned(self, host: Host) -> HostPlan:
        return {} if self.leaving else self.plans.of(host)

    def release(self, host: str) -> str:
        """The release that the host serves, as its directory is called: `0.3.36-1f0c8a`; empty where it serves none, or nobody can tell.

        On a host that has failed the one before may serve on.
        """
        release = self._release(host)
        return self._served.get(host, "") if host in self.failures else release.name if release else ""

    def _release(self, host: str) -> Release | None:
        return next((each for each in (self.work[host].resources if host in self.work else ()) if isinstance(each, Release)), None)

    def how_to_chat(self) -> Iterator[tuple[Entrance, Server, Path]]:
        """Each site that answers somebody, with the first server behind it, and a client's certificate, key and CA, exported."""
        export, revoked = cache(self.authority.export), self.authority.revoked(self.fleet)
        for entrance in self.fleet.entrances():
            client = next((name for name in entrance.admits if name not in revoked), None)
            if client and (answering := self.fleet.behind(entrance.site.upstream)):
                yield entrance, answering[0], export(client)

    def ask_time(self) -> None:
        """Asks the hosts that can be reached for the time, and nothing else."""
        began = time.time()
        said = self.run.said({host.name: "date +%s" for host in self.hosts if host.name not in self.failures})
        told = {name: int(lines[0]) for name, lines in said.items() if lines and lines[0].isdecimal()}
        self.clocks.update(clocks.compared(told, began, time.time()))

    def require_time(self) -> None:
        """Raises PaddockError where not more hosts agree with this machine's clock than say another time; not where none said any."""
        clocks.require_agreement(self.clocks)

    @property
    def _refused(self) -> frozenset[str]:
        """The hosts that nothing is signed for: they are another state's, and stay so."""
        return frozenset(self.strangers.keys() & self.failures.keys())

    def outdated(self) -> None:
        """The state has changed: plans are made anew. When it changed last is read before the rest, so that no change is missed."""
        self.lineage = lineage_of(self.state)
        self.plans.outdated()

    def _is_behind(self) -> bool:
        """Whether another run has changed who is let in since the plans were made."""
        return lineage_of(self.state) != self.lineage

    def notices(self) -> list[str]:
        """What to know though nothing is to change: who is thrown out, a CA that nears its end, a server that is open to all, memory that
        nobody could check."""
        knowledge = self.knowledge()
        remarks = [line for host in self.hosts if not self.leaving for line in self._remarks(host)]
        for name, work in self.work.items():
            remarks += (f"hosts.{name}: {line}" for line in beside.closed(work, knowledge.hardware[name].input_chains))
        return [*self.authority.notices(self.fleet, datetime.now(UTC)), *warnings(self.fleet), *remarks]

    def _remarks(self, host: Host) -> tuple[str, ...]:
        """None of a host that can have no plan: it has failed, and that is told."""
        try:
            return tuple(remarks_of(host, self.fleet, self.knowledge()))
        except PaddockError:
            return ()


def _is_of(fleet: Fleet, work: Work) -> bool:
    return work.actual.owner is not None and work.actual.owner.fleet == fleet.name

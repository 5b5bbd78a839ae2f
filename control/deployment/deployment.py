"""From an inventory to hosts that are as it says: survey, issue, build, converge, look again."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from control.deployment.asking import hardware, probe
from control.deployment.builds import assigned
from control.deployment.payload import asks_for, payload_for, trials_for
from control.deployment.peers import offered
from control.deployment.plans import Plans
from control.deployment.work import Work
from control.llama_cpp.releases import ROLE
from control.pki.authority import Authority
from control.ssh.host_keys import pin_all
from control.ssh.run import Run
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.secrets import Secrets, Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import unsupported
from inventory.knowledge import Knowledge
from inventory.summary import warnings
from resources import Package, Release
from resources.drift import Change, drift
from resources.probe import Actual
from roles.host_plan import HostPlan, needs_of, refusals_of, remarks_of
from roles.role import RequiredAccount
from roles.server import Entrance, Server

assert control.ssh.cooperative

CLOCK_TOLERANCE_S = 60

SITE = Path(__file__).parents[2] / "deploys" / "site.py"


@dataclass
class Deployment:
    """One fleet, or some of its hosts, in one run. `ask` answers questions (a host key nobody has seen), `tell` hears what happens.

    With `leaving`, every plan is empty: what Paddock put there goes, with `data` its data too. With `deep` models and releases are read
    whole, to find what changed without a trace. `work` is what there is to do on each host
    that answered; `run.failures` why the others did not.
    """

    fleet: Fleet
    state: FleetState
    hosts: tuple[Host, ...]
    tell: Callable[[str, str], None] = lambda host, line: None
    ask: Callable[[str], bool] = lambda question: False
    leaving: bool = False
    data: bool = False
    deep: bool = False
    work: dict[str, Work] = field(default_factory=dict)
    actual: dict[str, Actual] = field(default_factory=dict)
    _served: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vault = Vault(self.state)
        self.run = Run({host.name: host for host in self.hosts}, self.state.known_hosts, Secrets(vault), self.tell)
        self.authority = Authority(self.state, vault)
        self.plans = Plans(self.fleet, self.state)

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.run.failures.update(pin_all(self.hosts, self.state, self.ask))
        self.run.connect()
        try:
            yield
        finally:
            self.run.disconnect()

    @property
    def failures(self) -> Mapping[str, str]:
        return self.run.failures

    def knowledge(self) -> Knowledge:
        return self.plans.knowledge

    def survey(self, *, fit: bool = False) -> None:
        """Reads what each host's machine is where that is not known yet, then, in one command a host, how it differs from its plan.

        With `fit`, a host whose models cannot have the memory that they would take has failed, and one without the account that is to
        serve: before anything there is touched.
        """
        self._learn([host.name for host in self.hosts if not self.state.hardware(host.name)])
        self._probe([host for host in self.hosts if host.name not in self.failures])
        if changed := self._changed(self.actual):
            self._learn(changed)
            self._probe([host for host in self.hosts if host.name in changed and host.name not in self.failures])
        if fit and not self.leaving:
            self._refuse_what_does_not_fit(self.knowledge())
        self._plan()
        if fit and not self.leaving:
            self._refuse_missing_accounts()

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
        wanted = {name: dict(_accounts(self.fleet.hosts[name])) for name, work in self.work.items() if work.drift}
        asked = {name: _missing_sh(accounts) for name, accounts in wanted.items() if accounts}
        for name, missing in (self.run.said(asked) if asked else {}).items():
            for account in missing[:1]:
                required = wanted[name][account]
                what = f"{account} with a group of its own name" if required.own_group else account
                words = f"there is no account {what} on this host: make it (useradd --create-home {account}), or leave it out"
                self.run.failures[name] = f"roles.{required.key}: {words}"
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
        resources = {}
        for host in hosts:
            try:
                resources[host.name] = tuple(each for part in self._planned(host).values() for each in part)
            except PaddockError as error:
                self.run.failures[host.name] = str(error)
        started = time.time()
        for name, actual in probe(self.run, resources, deep=self.deep).items():
            self.actual[name] = actual
            off = actual.clock - started
            if not -CLOCK_TOLERANCE_S <= off <= CLOCK_TOLERANCE_S + (time.time() - started):
                self.run.failures[name] = (
                    f"its clock is {off:+.0f} s off this machine's: certificates would not be valid there. "
                    "Set one of the two right: `timedatectl` shows and sets it"
                )

    def _plan(self) -> None:
        answered = [host.name for host in self.hosts if host.name in self.actual and host.name not in self.failures]
        self.work = {name: self._work(name, self.actual[name]) for name in answered}

    def _work(self, name: str, actual: Actual) -> Work:
        host = self.run.hosts[name]
        plan = self._planned(host)
        return Work(plan, actual, drift(plan, actual, data=self.data), needs_of(host, self.fleet))

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

    def due(self) -> list[str]:
        """The certificates and keys that `converge` will issue first."""
        certificates = (f"certificate {each}" for each in self.authority.due(self.fleet, datetime.now(UTC)))
        return [*certificates, *api_keys.due(self.fleet, Vault(self.state))]

    def notices(self) -> list[str]:
        """What to know though nothing is to change: who is thrown out, a CA that nears its end, a server that is open to all, memory that
        nobody could check."""
        knowledge = self.knowledge()
        remarks = (line for host in self.hosts for line in remarks_of(host, self.fleet, knowledge) if not self.leaving)
        return [*self.authority.notices(self.fleet, datetime.now(UTC)), *warnings(self.fleet), *remarks]

    def converge(self) -> None:
        """Issues what is due, builds what is missing, makes the hosts so, and looks again: what still differs has failed.

        Where no host is left, nothing is signed: if all their clocks are another time's, this machine's may be the wrong one.
        """
        now = datetime.now(UTC)
        if not self.leaving and self.work and self.due():
            self.authority.issue(self.fleet, now)
            api_keys.issue(self.fleet, Vault(self.state))
            self.plans.outdated()
            self._plan()
        busy = {}
        missing = {name: work.missing for name, work in self.work.items()}
        assignment = assigned(missing, self.fleet, self.state, self.knowledge(), self.work.keys() - self.failures.keys())
        self.run.failures.update(assignment.failures)
        for name, work in self.work.items():
            builds = assignment.builds.get(name, ())
            if work.drift or builds:
                try:
                    needs = _with(work.needs, assignment.waits.get(name), name)
                    busy[name] = replace(self._supplied(name, work), needs=needs, builds=builds)
                except PaddockError as error:
                    self.run.failures[name] = str(error)
        with offered(self.run, busy, self.work, self.fleet) as asking:
            self.carry(asking)
        again = {name: work.resources for name, work in busy.items() if name not in self.failures}
        self._settle(name for name in again if any(each.starts for each in busy[name].drift.changes))
        found = probe(self.run, again, deep=self.deep)
        for name, actual in found.items():
            work = self._work(name, actual)
            if work.drift:
                self.run.failures[name] = "still differs after the run: " + still(work)
        links = {name: f'basename "$(readlink {release.current})"' for name in self.failures if (release := self._release(name))}
        self._served = {name: lines[0] for name, lines in self.run.said(links, failed=True).items() if lines}
        # What this run has installed is learned now: the next one need not look a second time.
        self._learn(self._changed(found))

    def _settle(self, hosts: Iterable[str]) -> None:
        """Watches what was started, on all hosts at once: what dies of itself soon is seen by the look that follows."""
        started = list(hosts)
        if started and self.fleet.settle:
            self.tell(", ".join(started), f"watches what was started for {self.fleet.settle} s")
            time.sleep(self.fleet.settle)

    def carry_out(self, works: Mapping[str, Work]) -> None:
        """Does on each host the work that is given for it, and nothing else. Builds nothing."""
        busy = {}
        for name, work in works.items():
            try:
                busy[name] = self._supplied(name, work)
            except PaddockError as error:
                self.run.failures[name] = str(error)
        with offered(self.run, busy, self.work, self.fleet) as asking:
            self.carry(asking)

    def carry(self, work: Mapping[str, Work]) -> None:
        """Runs deploys/site.py with this work."""

        def doing(host: str, name: str) -> str:
            return ", ".join(each.id for each in work[host].wrong(Package)) if name == "packages" else name

        self.run.carry_out(SITE, work, doing)

    def _supplied(self, name: str, work: Work) -> Work:
        """With the files that travel, and where the host gets the others. Raises PaddockError."""
        payload = payload_for(work, name, self.fleet, self.state)
        return replace(work, payload=payload, asks=asks_for(work, self.run.secrets), trials=trials_for(work))


def _accounts(host: Host) -> Iterator[tuple[str, RequiredAccount]]:
    """The accounts that have to be there already, by name, each with its key below `roles`: `client.accounts.ann`."""
    for role, settings in host.carried.items():
        yield from ((each.name, replace(each, key=f"{role}.{each.key}")) for each in settings.required_accounts())


def _missing_sh(accounts: Mapping[str, RequiredAccount]) -> str:
    """Prints those of the accounts that are not there. (Names of accounts need no quotes.)"""
    tests = (f"{{ id -u {name}{f' && getent group {name}' if each.own_group else ''}; }}" for name, each in accounts.items())
    return "\n".join(f"{test} >/dev/null 2>&1 || echo {name}" for test, name in zip(tests, accounts, strict=True))


def _with(needs: Mapping[str, frozenset[str]], builder: str | None, host: str) -> Mapping[str, frozenset[str]]:
    """And who compiles what the host is to serve."""
    return needs if builder in (None, host) else {**needs, ROLE: needs.get(ROLE, frozenset()) | {str(builder)}}


def still(work: Work) -> str:
    """What differs, in one line: `service:caddy.service active is failed, not active`."""
    words = [_differing(change) for change in work.drift.changes if change.attributes or change.action == "remove"]
    return "; ".join(words[:5]) + (f"; and {len(words) - 5} more" if len(words) > 5 else "") or "the manifest was changed meanwhile"


def _differing(change: Change) -> str:
    words = ", ".join(
        "its content" if name == "sha256" else f"{name} is {actual or 'missing'}, not {desired}"
        for name, (actual, desired) in change.attributes.items()
    )
    advice = change.resource.advice(change.attributes) if change.resource else ""
    return f"{change.id} {words}" + (f" ({advice})" if advice else "")

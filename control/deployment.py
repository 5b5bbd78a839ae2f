"""From an inventory to hosts that are as it says: survey, issue, build, converge, look again."""

from __future__ import annotations

import control.cooperative  # isort: skip - first of all
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from control import api_keys
from control.builds import ROLE, assigned
from control.context import context_for
from control.host_keys import pin_all
from control.payload import asks_for, payload_for
from control.peers import offered
from control.pki import Authority
from control.run import Run
from control.secrets import Secrets, Vault
from control.state import FleetState
from control.work import Work
from facts.drift import drift
from facts.state import Actual
from inventory.context import Context
from inventory.errors import PaddockError
from inventory.hardware import unsupported
from inventory.schema import Fleet, Host
from inventory.servers import Server, question
from inventory.summary import warnings
from roles.caddy.settings import Acme, CaddySettings
from roles.client.settings import ClientSettings
from roles.host_plan import HostPlan, host_plan, needs_of
from roles.llama_server.demands import refusals
from roles.llama_server.settings import LlamaServerSettings
from roles.resources import Release

assert control.cooperative

CLOCK_TOLERANCE_S = 60


@dataclass
class Deployment:
    """One fleet, or some of its hosts, in one run. `ask` answers questions (a host key nobody has seen), `tell` hears what happens.

    With `leaving`, every plan is empty: what Paddock put there goes, with `data` its data too. `work` is what there is to do on each host
    that answered; `run.failures` why the others did not.
    """

    fleet: Fleet
    state: FleetState
    hosts: tuple[Host, ...]
    tell: Callable[[str, str], None] = lambda host, line: None
    ask: Callable[[str], bool] = lambda question: False
    leaving: bool = False
    data: bool = False
    work: dict[str, Work] = field(default_factory=dict)
    actual: dict[str, Actual] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vault = Vault(self.state)
        self.run = Run({host.name: host for host in self.hosts}, self.state.known_hosts, Secrets(vault), self.tell)
        self.authority = Authority(self.state, vault)

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

    def context(self) -> Context:
        return context_for(self.fleet, self.state, now=datetime.now(UTC))

    def survey(self, *, fit: bool = False) -> None:
        """Reads what each host's machine is where that is not known yet, then, in one command a host, how it differs from its plan.

        With `fit`, a host whose models cannot have the memory that they would take has failed, and one without the account that is to
        serve: before anything there is touched.
        """
        self._learn(host.name for host in self.hosts if not self.state.hardware(host.name))
        context = self.context()
        self._probe(context, [host for host in self.hosts if host.name not in self.failures])
        changed = [name for name, actual in self.actual.items() if actual.identity != context.hardware[name].identity]
        if changed:
            self._learn(changed)
            context = self.context()
            self._probe(context, [host for host in self.hosts if host.name in changed and host.name not in self.failures])
        if fit and not self.leaving:
            self._refuse_what_does_not_fit(context)
        self._plan(context)
        if fit and not self.leaving:
            self._refuse_missing_accounts()

    def _refuse_what_does_not_fit(self, context: Context) -> None:
        for host in self.hosts:
            try:
                lines = list(refusals(host.name, self.fleet, context, context.shapes))
            except PaddockError as error:
                lines = [str(error)]
            if lines:
                self.run.failures.setdefault(host.name, "; ".join(each.removeprefix(f"hosts.{host.name}: ") for each in lines))

    def _refuse_missing_accounts(self) -> None:
        """Of the hosts that are to change: on the others everything is there that the accounts own."""
        wanted = {name: dict(_accounts(self.fleet, name)) for name, work in self.work.items() if work.drift}
        asked = {name: _missing_sh(accounts) for name, accounts in wanted.items() if accounts}
        for name, missing in (self.run.said(asked) if asked else {}).items():
            for account in missing[:1]:
                key = wanted[name][account]
                what = f"{account} with a group of its own name" if key.startswith("client.") else account
                words = f"there is no account {what} on this host: make it (useradd --create-home {account}), or leave it out"
                self.run.failures[name] = f"roles.{key}: {words}"
                del self.work[name]

    def _learn(self, names: Iterator[str] | list[str]) -> None:
        for name, hardware in self.run.hardware(names).items():
            if unfit := unsupported(hardware):
                self.run.failures[name] = unfit
            else:
                self.state.save_hardware(name, hardware)

    def _probe(self, context: Context, hosts: list[Host]) -> None:
        resources = {}
        for host in hosts:
            try:
                resources[host.name] = tuple(each for part in self._planned(host, context).values() for each in part)
            except PaddockError as error:
                self.run.failures[host.name] = str(error)
        started = time.time()
        for name, actual in self.run.probe(resources).items():
            self.actual[name] = actual
            off = actual.clock - started
            if not -CLOCK_TOLERANCE_S <= off <= CLOCK_TOLERANCE_S + (time.time() - started):
                self.run.failures[name] = (
                    f"its clock is {off:+.0f} s off this machine's: certificates would not be valid there. "
                    "Set one of the two right: `timedatectl` shows and sets it"
                )

    def _plan(self, context: Context) -> None:
        answered = [host.name for host in self.hosts if host.name in self.actual and host.name not in self.failures]
        self.work = {name: self._work(name, context, self.actual[name]) for name in answered}

    def _work(self, name: str, context: Context, actual: Actual) -> Work:
        host = self.run.hosts[name]
        plan = self._planned(host, context)
        return Work(plan, actual, drift(plan, actual, data=self.data), needs_of(host, self.fleet))

    def _planned(self, host: Host, context: Context) -> HostPlan:
        return {} if self.leaving else host_plan(host, self.fleet, context)

    def release(self, host: str) -> str:
        """The release that the host is to serve, as its directory is called: `0.3.36-1f0c8a`; empty where it serves none."""
        releases = [each for each in (self.work[host].resources if host in self.work else ()) if isinstance(each, Release)]
        return releases[0].path.rpartition("/")[2] if releases else ""

    def how_to_chat(self) -> Iterator[str]:
        """A `curl` line for each site: name resolution, certificates and all."""
        export, revoked = cache(self.authority.export), self.authority.revoked(self.fleet)
        for host in self.fleet.hosts_with("caddy"):
            settings = self.fleet.role(host.name, "caddy", CaddySettings)
            assert settings
            for site, behind in settings.sites.items():
                client = next((name for name in self.fleet.admits(behind) if name not in revoked), None)
                if client and (answering := self.fleet.behind(behind.upstream)):
                    yield chat_line(site, settings.port, host.address, export(client), answering[0], self.fleet, behind.acme)

    def due(self) -> list[str]:
        """The certificates and keys that `converge` will issue first."""
        certificates = (f"certificate {each}" for each in self.authority.due(self.fleet, datetime.now(UTC)))
        return [*certificates, *api_keys.due(self.fleet, Vault(self.state))]

    def notices(self) -> list[str]:
        """What to know though nothing is to change: who is thrown out, a CA that nears its end, a server that is open to all."""
        return [*self.authority.notices(self.fleet, datetime.now(UTC)), *warnings(self.fleet)]

    def converge(self) -> None:
        """Issues what is due, builds what is missing, makes the hosts so, and looks again: what still differs has failed.

        Where no host is left, nothing is signed: if all their clocks are another time's, this machine's may be the wrong one.
        """
        now = datetime.now(UTC)
        if not self.leaving and self.work and self.due():
            self.authority.issue(self.fleet, now)
            api_keys.issue(self.fleet, Vault(self.state))
            self._plan(self.context())
        busy = {}
        missing = {name: work.missing for name, work in self.work.items()}
        assignment = assigned(missing, self.fleet, self.state, self.context(), self.work.keys() - self.failures.keys())
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
            self.run.converge(asking)
        again = {name: work.resources for name, work in busy.items() if name not in self.failures}
        context = self.context()
        found = self.run.probe(again)
        for name, actual in found.items():
            work = self._work(name, context, actual)
            if work.drift:
                self.run.failures[name] = "still differs after the run: " + still(work)
        # What this run has installed is learned now: the next one need not look a second time.
        self._learn([name for name, actual in found.items() if actual.identity != context.hardware[name].identity])

    def carry_out(self, works: Mapping[str, Work]) -> None:
        """Does on each host the work that is given for it, and nothing else. Builds nothing."""
        busy = {}
        for name, work in works.items():
            try:
                busy[name] = self._supplied(name, work)
            except PaddockError as error:
                self.run.failures[name] = str(error)
        with offered(self.run, busy, self.work, self.fleet) as asking:
            self.run.converge(asking)

    def _supplied(self, name: str, work: Work) -> Work:
        """With the files that travel, and where the host gets the others. Raises PaddockError."""
        payload = payload_for(work, name, self.fleet, self.state)
        return replace(work, payload=payload, asks=asks_for(work, self.run.secrets))


def _accounts(fleet: Fleet, host: str) -> Iterator[tuple[str, str]]:
    """The accounts that have to be there already, each with the key of the inventory that names it."""
    server, client = fleet.role(host, "llama_server", LlamaServerSettings), fleet.role(host, "client", ClientSettings)
    if server and server.user:
        yield server.user, "llama_server.user"
    yield from ((account, f"client.accounts.{account}") for account in (client.accounts if client else ()))


def _missing_sh(accounts: Mapping[str, str]) -> str:
    """Prints those of the accounts that are not there. A client's files are its group's. (Names of accounts need no quotes.)"""
    tests = (f"{{ id -u {each}{f' && getent group {each}' if key.startswith('client.') else ''}; }}" for each, key in accounts.items())
    return "\n".join(f"{test} >/dev/null 2>&1 || echo {each}" for test, each in zip(tests, accounts, strict=True))


def _with(needs: Mapping[str, frozenset[str]], builder: str | None, host: str) -> Mapping[str, frozenset[str]]:
    """And who compiles what the host is to serve."""
    return needs if builder in (None, host) else {**needs, ROLE: needs.get(ROLE, frozenset()) | {str(builder)}}


def chat_line(site: str, port: int, address: str, certificates: Path, server: Server, fleet: Fleet, acme: Acme | None = None) -> str:
    """A question to the first model behind a site, for a shell."""
    model = server.models[0]
    path, body = question(model, fleet.preset(server, model), max_tokens=32)
    trusted = f"--cacert {acme.root if acme else f'{certificates}/ca.pem'} " if not acme or acme.root else ""
    lines = [
        f"curl -sS --resolve {site}:{port}:{address}",
        f"{trusted}--cert {certificates}/cert.pem --key {certificates}/key.pem",
        *([f'-H "Authorization: Bearer $(paddock secrets show {server.key_name})"'] if server.api_key else []),
        f"https://{site}{'' if port == 443 else f':{port}'}{path} -H 'Content-Type: application/json'",
        f"-d '{json.dumps(body)}'",
    ]
    return "\nchat:\n  " + " \\\n    ".join(lines)


def still(work: Work) -> str:
    """What differs, in one line: `service:caddy.service active is failed, not active`."""
    words = [
        f"{change.id} "
        + ", ".join(
            "its content" if name == "sha256" else f"{name} is {actual or 'missing'}, not {desired}"
            for name, (actual, desired) in change.attributes.items()
        )
        for change in work.drift.changes
    ]
    return "; ".join(words[:5]) + (f"; and {len(words) - 5} more" if len(words) > 5 else "") or "the manifest was changed meanwhile"

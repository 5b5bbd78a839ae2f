"""Another version for a fleet: brought while the one before serves, tried on a canary of each build class, then in waves."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from control.deployment.deployment import Deployment
from control.deployment.guard import Switch, guard_of
from control.deployment.verification import verify
from control.deployment.work import Work
from control.lifecycle.comparison import chosen, compare, reached
from control.lifecycle.components import ASKED, OFFERED, HostUpgrade, offers_of, other_major, upgrade_of
from control.lifecycle.evidence import Evidence
from control.lifecycle.judgement import Judgement
from control.lifecycle.names import LLAMA_CPP, POSTGRES, WORDS
from control.lifecycle.recording import Recording
from control.lifecycle.rows import counted, lost_since
from control.lifecycle.silences import silenced
from control.lifecycle.soak import soaked
from control.lifecycle.waves import CANARY, Upgraded, Wave, waves
from control.ssh.reach import Reach
from control.ssh.run import Tell
from control.state import speeds
from control.state.fleet import FleetState
from control.state.lock import Holder
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Reached
from resources.guard import Guard, taken_back_words
from resources.history import HostEntry

assert control.ssh.cooperative

DEADLINE_S = 600
"""How long a host waits for its confirmation after the last command of a run, before it takes its switch back by itself."""

SILENCE_S = 3600
"""How long at most nobody is told of alerts of a host that is switched, beside the time in which it is watched."""


@dataclass
class Upgrade:
    """One upgrade of a component on these hosts. `tell` hears what happens on a host, `say` what happens to all, `complain` what failed a
    check. `accept` is asked whether to go on where the measurements of a canary do not decide, `record` is the run's, `holder` has the
    fleet's lock.

    What an earlier run has left unconfirmed is taken back first, if it `takes_back`. A canary is watched for `soak_s` seconds after its
    switch. `failures` is host → why it does not serve the new release, `done` are the hosts that do, `taken_back` those that serve the one
    before again. `id` names the switches on the hosts.
    """

    fleet: Fleet
    state: FleetState
    hosts: tuple[Host, ...]
    tell: Tell
    say: Callable[[str], None]
    complain: Callable[[str], None]
    ask: Callable[[str], bool]
    accept: Callable[[str], bool]
    record: Recording
    holder: Holder
    sizes: Sequence[str]
    component: str = LLAMA_CPP
    at_once: int = 1
    soak_s: int = 0
    takes_back: bool = True
    upgrades: dict[str, HostUpgrade] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"upgrade-{secrets.token_hex(4)}")
    _reached: dict[str, list[Reached]] = field(default_factory=dict, repr=False)
    _evidence: Evidence = field(init=False, repr=False)
    _looking: Deployment = field(init=False, repr=False)
    _knowledge: Knowledge = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._evidence = Evidence(self.state, self.record, self.id, self.say, self.complain)

    @contextmanager
    def looked(self) -> Iterator[None]:
        """Inside the block it is known what each host serves and what it is to serve, and releases can be brought."""
        self._looking = self._deployment(self.hosts)
        with self._looking.connected():
            self._looking.survey(fit=True)
            if self.takes_back and self._took_back():
                self._looking.run.failures.clear()
                self._looking.survey(fit=True)
            self.failures.update(self._looking.failures)
            self._knowledge = self._looking.knowledge()
            self.upgrades = {each.host: each for each in self._found()}
            self.failures.update(self._looking.failures)
            yield

    def _found(self) -> Iterator[HostUpgrade]:
        asks = ASKED.get(self.component)
        carrying = [name for name, work in self._looking.work.items() if self.component in work.plan or not asks]
        said = self._looking.run.said(dict.fromkeys(carrying, OFFERED + asks)) if asks and carrying else {}
        for name in carrying:
            lines = said.get(name, ())
            if stays := other_major(lines):
                self.say(f"{name}: {stays}")
            elif each := upgrade_of(self._looking, name, self.component, [*offers_of(lines)]):
                yield each

    def _took_back(self) -> bool:
        """Whether switches waited that a run which did not end has left. They are taken back: this one begins with the release before."""
        found = False
        for name, actual in self._looking.actual.items():
            if waits := actual.waiting:
                self.say(f"{name}: {waits.words} was never confirmed: it is taken back first")
                switch = Switch(self._looking.run, name, Guard(waits.id, DEADLINE_S, waits.words))
                if switch.take_back("the run that began it did not end", ""):
                    self._evidence.of_switch(switch)
                found = True
        return found

    def bring(self) -> bool:
        """Has the releases of all classes built, and those of the canaries laid beside what serves there, and tried by their gates. False
        where one cannot be: nothing has been switched then. Of other components the host tries each by its gate before the switch."""
        if self.component != LLAMA_CPP:
            return True
        canaries = self.waves[0].hosts
        wanted = {*canaries, *(self.upgrades[name].serving.builder for name in canaries)}
        self._looking.work = {name: work for name, work in self._looking.work.items() if name in wanted}
        self._looking.bring()
        self.failures.update(self._looking.failures)
        for host in set(canaries) & self.failures.keys():
            self._evidence.of_failure(host, self.failures[host])
        return not self._looking.failures

    def judge(self) -> bool:
        """Measures each canary's new release beside the one that serves there. False where one does not do: nothing has been switched."""
        return self.component != LLAMA_CPP or all(self._judged(self.upgrades[host]) for host in self.waves[0].hosts)

    def _judged(self, this: HostUpgrade) -> bool:
        reach = Reach(self.fleet, self.state, [self.fleet.hosts[this.host]])
        with reach.connected():
            for each in chosen(this.host, self.fleet, self._knowledge):
                where = f"{this.host}: {each.server.unit}"
                if each.manner is None:
                    self.say(f"{where}: is not measured: the host has no room for one more beside what serves")
                    continue
                self.say(f"{where}: {this.after} is measured beside {this.before}")
                try:
                    judgement = compare(
                        *(reach, each.server, each.manner, this.before, this.serving, this.resources, self.fleet.upgrade),
                        lambda judgement: self.say("not decided yet: it is measured again"),
                    )
                except PaddockError as error:
                    self.failures[this.host] = f"cannot be measured: {error}"
                    self._evidence.of_failure(this.host, self.failures[this.host])
                    return False
                if not self._passes(this.host, each.server.unit, judgement):
                    return False
                if found := reached(judgement, each.server, this.serving, self.fleet):
                    self._reached.setdefault(this.host, []).append(found)
        return True

    def _passes(self, host: str, unit: str, judgement: Judgement) -> bool:
        for finding in judgement.findings:
            self.say(f"  {finding.verdict:12}  {finding.words}")
        self.record.figures[host] = {each: spread.middle for each, spread in judgement.reached.items()}
        self._evidence.measured(host, unit, judgement)
        causes = "; ".join(judgement.causes)
        if judgement.verdict == "pass":
            return True
        if judgement.verdict == "inconclusive" and self.accept(f"{host}: {unit}: the measurements do not decide: {causes}. Go on?"):
            return True
        words = "is worse than the one that serves" if judgement.verdict == "fail" else "cannot be judged"
        self.failures[host] = f"{unit}: {self.upgrades[host].after} {words}: {causes}"
        self._evidence.of_failure(host, self.failures[host])
        return False

    @property
    def waves(self) -> tuple[Wave, ...]:
        found = [Upgraded(each.host, each.build, self._models(each.host)) for each in self.upgrades.values()]
        return waves(found, self.sizes, self.at_once) if found else ()

    def _models(self, host: str) -> frozenset[str]:
        """That are away while the host is: two hosts that have the same are never away together."""
        return frozenset(model for server in self.fleet.servers(host) for model in server.models)

    def carry_out(self) -> bool:
        """Whether every host has the new version now. What has failed is in `failures`, and no host after it has been touched."""
        for wave in self.waves:
            for batch in wave.batches:
                self.say(f"{wave.name}: {', '.join(batch)}")
                with silenced(self.fleet, self.state, batch, SILENCE_S + self.soak_s, self.say):
                    well = self._switched(batch, watched=wave.name == CANARY)
                if not well:
                    return False
        return True

    def _switched(self, batch: Sequence[str], *, watched: bool) -> bool:
        hosts = tuple(self.fleet.hosts[name] for name in batch)
        deployment = self._deployment(hosts, lambda work: guard_of(work, self.id, DEADLINE_S, self._words(batch)))
        with deployment.connected():
            deployment.survey(fit=True)
            before = counted(self.fleet, self.state, batch) if self.component == POSTGRES and not deployment.failures else {}
            guards = {name: guard for name, work in deployment.work.items() if (guard := deployment.guard(work))}
            switches = [Switch(deployment.run, name, guard) for name, guard in guards.items()]
            try:
                deployment.converge()
                failed = dict(deployment.failures) or self._verified(deployment, switches) or lost_since(self.fleet, self.state, before)
                if watched and not failed:
                    failed = self._soaked(deployment, switches)
            except KeyboardInterrupt:
                self._end(switches, dict.fromkeys(guards, "it was interrupted"))
                raise
            self._end(switches, failed, {name: deployment.entry_of(name) for name in deployment.work if name not in failed})
        if not failed:
            self._tidied(deployment.hosts)
        return not self.failures

    def _words(self, batch: Sequence[str]) -> str:
        """What a host says that waits for its confirmation, where nothing on it says so: of a release it is its name."""
        this = self.upgrades[batch[0]]
        return "" if self.component == LLAMA_CPP else f"the switch of {WORDS[self.component]} from {this.before} to {this.after}"

    def _tidied(self, hosts: tuple[Host, ...]) -> None:
        """What a switch keeps until it is confirmed goes: packages of the release before, files of the version before, their lines in the
        manifest."""
        deployment = self._deployment(hosts)
        with deployment.connected():
            deployment.survey()
            if any(work.drift for work in deployment.work.values()):
                deployment.converge()
        self.failures.update(deployment.failures)

    def _end(
        self, switches: Iterable[Switch], failed: Mapping[str, str], entries: Mapping[str, HostEntry | None] = MappingProxyType({})
    ) -> None:
        """Confirms what does well, and has the rest taken back. `entries` are what the hosts' histories are to have of it."""
        self.failures.update(failed)
        for each in switches:
            try:
                if each.host not in failed:
                    each.confirm(entries.get(each.host), self._reached.get(each.host, ()))
                    self.done.append(each.host)
                    self._keep(each.host)
                elif taken := each.take_back(failed[each.host], failed[each.host]):
                    self.taken_back.append(each.host)
                    self.record.outcome = "taken back"
                    if self.component == LLAMA_CPP:
                        self.record.releases[each.host] = self.upgrades[each.host].before
                    self.complain(f"{each.host}: {taken_back_words(taken)}")
                    self._evidence.of_switch(each)
                else:
                    self._evidence.of_failure(each.host, failed[each.host])
            except PaddockError as error:
                self.failures.setdefault(each.host, "nobody could confirm it")
                self.complain(f"{error}: the host takes the switch back by itself within {DEADLINE_S} s")

    def _keep(self, host: str) -> None:
        """In the state, how fast its servers were when they were measured."""
        try:
            speeds.keep(self.state, host, self._reached.get(host, ()))
        except PaddockError as error:
            self.complain(f"{host}: {error}")

    def _verified(self, deployment: Deployment, switches: Iterable[Switch]) -> dict[str, str]:
        words: list[str] = []
        self._extend(switches)

        def complain(line: str) -> None:
            words.append(line.strip())
            self.complain(line)

        plans = {name: work.part_of_plan for name, work in deployment.work.items()}
        failed = verify(self.fleet, self.state, plans, self.say, complain, reached=self._reached)
        self.record.verified |= {name: "FAILED" if number else "yes" for name, number in failed.items()}
        return {name: f"{number} checks failed: {'; '.join(words)}" for name, number in failed.items() if number}

    def _extend(self, switches: Iterable[Switch]) -> None:
        for each in switches:
            each.extend()

    def _soaked(self, deployment: Deployment, switches: Sequence[Switch]) -> dict[str, str]:
        self.say(f"watches {', '.join(deployment.work)} for {self.soak_s} s")
        return soaked(deployment, self.soak_s, lambda: self._extend(switches))

    def _deployment(self, hosts: tuple[Host, ...], guard: Callable[[Work], Guard | None] = lambda work: None) -> Deployment:
        return Deployment(
            *(self.fleet, self.state, hosts, self.tell, self.ask),
            guard=guard,
            part="" if self.component == LLAMA_CPP else self.component,
            offered={name: each.packages for name, each in self.upgrades.items() if each.packages},
            changing=self.record.opens,
            holder=self.holder,
            verb="upgrade",
        )

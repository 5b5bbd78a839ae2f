"""Services that run what is declared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from resources.base import Action, Attributes, Landing, OnDisk, Origin, Phase, Resource, ResourceError, digest, of_kind
from resources.disk import UNOPENED, Directory, File, changed_at
from resources.line import Line
from resources.model import ModelFile
from resources.port import Port
from resources.probe import ProbeAnswer
from resources.release import Release
from resources.steps import Steps
from resources.venv import Venv

if TYPE_CHECKING:
    from resources.drift import Change
    from resources.probe import Actual

NOT_READ = ("owner", "group", "mode", "fingerprint", "manifest")
"""Attributes of what a service reads that change nothing of what it has read."""

VENDOR = ("/usr/lib/systemd/", "/lib/systemd/", "/run/systemd/generator")
"""Where the distribution's packages and systemd's generators put units."""

TRIGGERS = (".timer", ".path")
"""Ends of the names of units that start others."""

STEERING = r"(?:LLAMA_ARG|GGML|CUDA|LD)_[A-Za-z0-9_]*"
"""Variables that change what llama-server does. The probe asks for the same ones."""

DECLARED = "declared"

UNSTABLE_S = 600
"""A service that systemd had to start again within this time counts as unstable."""

VERBS: Mapping[Action, str] = {"put": "restart", "restart": "restart", "reload": "reload", "mend": "none", "keep": "none"}
"""What systemctl is called with, so that the process runs what is declared."""


@dataclass(frozen=True)
class Service(Resource):
    """A service that runs what is declared: the system's, or with a `user` that account's own, which runs also where nobody is logged in.

    `restarts` are the resources that only a start reads, `reloads` those that a reload reads too, `runs` the ids of what other roles put
    there and only a start reads (`release:/opt/paddock/llama.cpp/current`). `ports` are what it listens on once it is ready. `validate` are
    shell commands that must succeed before a start or a reload. A `name` may be a timer's or a path unit's: of that only its own file
    counts. `accepted` are paths of units and drop-ins of somebody else's that may change what runs. `answers` is a shell command that
    succeeds once it answers: it may listen long before. `in_force` is a shell command that succeeds while what a start and a reload put in
    force, in the kernel say, still is. With `joins`, a process that ran before Paddock came goes on: a reload is enough, and what only a
    start reads comes with the next one. `left_open` is a shell command that succeeds while the process has something open that only a
    restart ends. Where it `drains`, callers wait while it is restarted, and its unit has it end what it answers before. Those that are
    `alike` are not restarted at the same time. `cuts` says what a restart of it breaks off all the same. `gate` are shell commands that
    must succeed as well where the program gets another version that is on trial. `takes_back` are three shell commands for what `validate`
    changes beyond files: the first prints what is there before; the second runs before what it reads is put back, the third afterwards.
    Both get a directory: in its `files` lies what it is to read again, in `noted` what the first has printed. A `name` may be a socket
    unit's too: systemd holds its ports, over all starts of the service that it hands them to, and a restart of it is one of that service.

    Where there is something to `validate` and it runs, what it reads is put back if it does not run well with what has landed.
    """

    kind: ClassVar[str] = "service"
    phase: ClassVar[Phase] = "services"
    reverts: ClassVar[bool] = True  # it reads its old files
    listed: ClassVar[bool] = True

    name: str
    restarts: tuple[Resource, ...] = ()
    reloads: tuple[Resource, ...] = ()
    runs: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    validate: tuple[str, ...] = ()
    ready_timeout_s: int = 60
    user: str = ""
    accepted: tuple[str, ...] = ()
    in_force: str = ""
    joins: bool = False
    left_open: str = ""
    answers: str = ""
    answer_timeout_s: int = 600
    drains: bool = False
    cuts: str = ""
    alike: str = ""
    takes_back: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"service:{self.unit}"

    @property
    def unit(self) -> str:
        """`caddy.service`; with its account in front where it is a user's: `ai/llama-server.service`."""
        return f"{self.user}/{self.name}" if self.user else self.name

    @property
    def note(self) -> str:
        """What its notes in `/run` are called."""
        return self.unit.replace("/", "--")

    @property
    def desired(self) -> Attributes:
        unit = {"active": "active", "enabled": "enabled", "daemon-reload": "no", **({"units": DECLARED} if self.reads else {})}
        if self.is_trigger:
            return unit
        if not self.is_stamped:
            return {**unit, "restarts": "none"}
        process = {"program": "current", "environment": DECLARED, "restarts": "none"} if self.section == "Service" else {}
        lasting = {**({"in force": "yes"} if self.in_force else {}), **({"left open": "nothing"} if self.left_open else {})}
        read = {"started": self.started, "loaded": self.loaded}
        return {**unit, **process, **lasting, **{name: what for name, what in read.items() if what != UNOPENED}}

    @property
    def is_trigger(self) -> bool:
        """A timer or a path unit runs no program that could note what it was started with: systemd has read its file, or `daemon-reload`
        says not."""
        return self.name.endswith(TRIGGERS)

    @property
    def is_stamped(self) -> bool:
        """Whether its starts are noted. Of one that reads nothing that is declared it is enough that it runs: it is never restarted."""
        return not self.is_trigger and bool(self.reads or self.runs or self.ports or self.in_force)

    @cached_property
    def started(self) -> str:
        return _digest(self.restarts)

    @cached_property
    def loaded(self) -> str:
        return _digest(self.reloads)

    @property
    def is_unopened(self) -> bool:
        """Whether it reads what nobody here can open, so that nobody can tell what it is to have been started with."""
        return not self.is_trigger and UNOPENED in (self.started, self.loaded)

    @property
    def stamp(self) -> File:
        """The drop-in that notes, at every start and reload, under which invocation what was declared. It lands after all inputs."""
        as_root, notes = ("", f"%t/paddock/{self.note}") if self.user else ("+", "/run/paddock/%n")
        started = f"{as_root}/bin/ln -sfn ${{INVOCATION_ID}}:{self.started} {notes}.started"
        loaded = f"{as_root}/bin/ln -sfn ${{INVOCATION_ID}}:{self.loaded} {notes}.loaded"
        lines = [f"[{self.section}]", f"ExecStartPost={as_root}/bin/mkdir -p {notes.rpartition('/')[0]}"]
        lines += [f"ExecStartPost={started}", f"ExecStartPost={loaded}"]
        lines += [f"ExecReload={loaded}"] if self.reloads else []
        return File(f"{self.dropins}/50-paddock.conf", UNOPENED if self.is_unopened else "\n".join([*lines, ""]))

    @property
    def section(self) -> str:
        """Of its unit: `Service`, `Socket`, `Timer`."""
        return self.name.rpartition(".")[2].capitalize()

    @property
    def dropins(self) -> str:
        return f"/etc/systemd/{'user' if self.user else 'system'}/{self.name}.d"

    @property
    def reads(self) -> tuple[Resource, ...]:
        """All that it reads, at a start or at a reload."""
        return (*self.restarts, *self.reloads)

    # What the probe asks, and how its answer reads

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        """Beside the units the directories of what they read: when a file that is missing was removed, only its directory can say."""
        services = of_kind(resources, cls)
        read = (each.path for service in services for each in service.reads if isinstance(each, File | ModelFile))
        return {
            "services": [each.unit for each in _in_order(services)],
            "paths": dict.fromkeys(path.rpartition("/")[0] for path in read),
            "in_force": [f"{each.unit}\t{each.in_force}" for each in services if each.in_force],
            "left_open": [f"{each.unit}\t{each.left_open}" for each in services if each.left_open],
        }

    def found(self, answer: ProbeAnswer) -> Attributes:
        shown = answer.once(_shown).get(self.unit)
        if not shown or not shown.get("Id") or (not shown["UnitFileState"] and shown["ActiveState"] == "inactive"):
            return {}  # an account whose manager does not run has no services
        program = answer.table("program").get(f"/proc/{shown.get('MainPID', '')}/exe", "")  # a timer has none
        return {
            "active": shown["ActiveState"],
            "enabled": shown["UnitFileState"],
            "daemon-reload": shown["NeedDaemonReload"],
            "units": _also(self._foreign(answer, shown)),
            "environment": _also(_foreign_variables(answer, shown)),
            "restarts": _lately_restarted(answer, shown),
            "in force": answer.table("in_force").get(self.unit, "no"),
            "left open": answer.table("left_open").get(self.unit, "nothing"),
            "program": "replaced" if program.endswith(" (deleted)") else "current",  # it still runs the old one
            "started": self._noted("started", answer, shown, "ActiveEnter" if self.reloads or self.section == "Socket" else "StateChange"),
            "loaded": self._noted("loaded", answer, shown, "StateChange"),
        }

    def _foreign(self, answer: ProbeAnswer, shown: Mapping[str, str]) -> list[str]:
        """Units and drop-ins that systemd has loaded and nobody declares. A service of which nothing is declared may have any."""
        loaded = [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split()] if self.reads else []
        declared = answer.once(_declared_files)
        return [each for each in loaded if each and not each.startswith(VENDOR) and each not in declared and each not in self.accepted]

    def _noted(self, name: str, answer: ProbeAnswer, shown: Mapping[str, str], when: str) -> str:
        """What was noted under the running invocation. It says nothing if an earlier one noted it; nor if it says what is declared, but
        something that was read then had been changed by hand: at the start, or also when somebody reloaded it, which changes the unit's
        state for a moment.
        """
        invocation, _, noted = answer.table("stamp").get(f"{self.note}.{name}", "").partition(":")
        if not invocation or invocation != shown["InvocationID"]:
            return ""
        read = self.restarts if name == "started" else self.reloads
        if noted == self.desired.get(name) and any(_otherwise_before(shown[f"{when}Timestamp"], each, answer) for each in read):
            return ""
        return noted

    # What is to happen

    def noted_as(self, actual: Actual) -> Origin | None:
        found = actual.resources.get(self.id)
        if self.id not in actual.manifest and found and found["active"] != "active":
            return "put"  # it did not run: that is how it is to be again
        return super().noted_as(actual)

    def is_paddocks(self, actual: Actual) -> bool:
        return self.is_stamped and not actual.differing(self)

    def action(self, actual: Actual, wrong: frozenset[str]) -> Action | None:
        """A start, a reload or a restart brings in what the running process has not read. One whose port is not as declared is restarted
        even where it is otherwise well: the port may have been taken. So is one whose release lands anew, under the program that runs. One
        of which a file is mended, so that it is what the service runs already, is kept; but systemd is to read it again.
        """
        replaced = {each.id for each in self.restarts if each.lands_anew(actual)}
        touched = {self.id, self.stamp.id, *(each.id for each in (*self.ports, *self.restarts))} & wrong | replaced
        if not touched:
            return None
        found = actual.resources.get(self.id, {})
        if found.get("active") != "active":
            return "put"
        differing = actual.differing(self)
        if self._goes_on(actual, wrong):
            return "reload"
        if (
            self.is_trigger
            or replaced
            or differing.keys() & {"program", "started", "left open"}
            or touched & {each.id for each in self.ports}
        ):
            return "restart"
        if differing.keys() & {"loaded", "in force"}:
            return "reload" if self.reloads else "restart"
        return "mend" if differing else "keep"

    def _goes_on(self, actual: Actual, wrong: frozenset[str]) -> bool:
        """Whether it runs since before Paddock came, and what only a start reads is to be added, not changed."""
        found = actual.resources.get(self.id, {})
        before = actual.manifest.get(self.id, "kept") == "kept" and not found.get("started") and found.get("program") == "current"
        return self.joins and before and not any(each.id in wrong and each.id in actual.resources for each in self.restarts)

    # How it lands, and how it leaves

    @classmethod
    def before_landing(cls, steps: Steps, wrong: frozenset[str], landing: Landing) -> None:
        """Tries what llama-servers are to read, and keeps what others read that can refuse it. Drops the notes of services that have read
        what is mended now as somebody had changed it: a run that dies after it has mended a file is to leave no note that makes its service
        look well.
        """
        for service in of_kind(landing.resources, cls):
            if wrong & {each.id for each in service.reads}:
                differing = landing.actual.differing(service)
                service._try_flags(steps, landing)
                if service.validate and not service.user and VERBS[service.action(landing.actual, wrong) or "keep"] != "none":
                    steps.add("service_keep", service.unit, *service._kept())
                    if service.takes_back:
                        steps.add("service_keep_undo", service.unit, *service.takes_back)
                if notes := [note for note in ("started", "loaded") if note in differing and not differing[note][0]]:
                    steps.add("service_unvouched", service.unit, *notes)

    def _kept(self) -> Iterator[str]:
        """The paths of what it reads, and the lines, each behind its path and a tab."""
        whole = [each.path for each in self.reads if isinstance(each, Directory) and each.exclusive]
        for each in (*self.reads, self.stamp):
            if isinstance(each, Line):
                yield f"{each.path}\t{each.text}"
            elif isinstance(each, Venv):
                yield each.current  # the environment before it stays beside it
            elif isinstance(each, OnDisk) and each.path.rpartition("/")[0] not in whole and (each.path in whole or isinstance(each, File)):
                yield each.path

    def _try_flags(self, steps: Steps, landing: Landing) -> None:
        """The release that serves already is asked whether it takes what is to land, before anything does."""
        for release in of_kind(self.restarts, Release):
            if release.id in landing.trials and not landing.actual.differing(release):
                release.try_flags(steps, landing)

    @classmethod
    def land_all(cls, steps: Steps, changes: Sequence[Change], landing: Landing) -> None:
        """Stamps, then starts."""
        services = [(change.resource, change.action) for change in changes if isinstance(change.resource, cls)]
        if not services:
            return
        wrong = {each.id for service, _ in services for each in (service.stamp, *service.ports) if landing.actual.differing(each)}
        for service, _ in services:
            if service.is_stamped and service.stamp.id in wrong:
                service.stamp.land(steps, landing)
            steps.add("service_unhold", service.name)
        steps.add("systemctl", "daemon-reload")
        # Who listens on a port that another is to have gives it up first: two that change places would wait for each other.
        found = landing.actual.resources
        wanted = [(service.name, port.id) for service, _ in services for port in service.ports if port.id in wrong]
        holders = {holder for name, port in wanted for holder in found.get(port, {}).get("unit", "").split() if holder != name}
        for service, _ in services:
            if service.name in holders:
                steps.add("service_vacate", service.unit)
        for account in sorted({service.user for service, _ in services} - {""}):
            steps.add("service_awake", account)
        restarted = Counter(service.alike for service, action in services if action == "restart")
        alike, again = {each for each, number in restarted.items() if each and number > 1}, set[str]()
        for service, action in services:
            for command in (*(service.gate if landing.part else ()), *service.validate) if VERBS[action] != "none" else ():
                steps.add("service_valid", service.unit, command)
            if service.alike in alike and action == "restart":
                if service.alike in again:
                    steps.add("service_noticed")
                again.add(service.alike)
            ports = (port.place for port in service.ports)
            steps.add("put_service", service.unit, VERBS[action], service.ready_timeout_s, *ports)
            if action == "reload" and "started" in landing.actual.differing(service):
                steps.add("service_joined", service.unit, service.started)
            if service.alike in alike:
                service._answering(steps, action)
        for service, action in services:  # once all are at it: models are read side by side
            if service.alike not in alike:
                service._answering(steps, action)

    def _answering(self, steps: Steps, action: Action) -> None:
        if self.answers and VERBS[action] != "none":
            steps.add("service_answers", self.unit, self.answer_timeout_s, self.answers)

    @classmethod
    def before_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        names = [name.removeprefix("service:") for name, origin in gone.items() if name.startswith("service:") and origin != "kept"]
        if names:
            steps.add("service_drained", *names)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        if origin != "kept":
            steps.add("gone_service", name)

    @classmethod
    def after_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        if any(name.startswith(("file:/etc/systemd/", "service:")) for name in gone):
            steps.add("systemctl", "daemon-reload")
        for name, origin in gone.items():
            unit = name.removeprefix("service:")
            if unit != name and origin == "kept":
                steps.add("service_again", unit, "changed" if unit.endswith(TRIGGERS) or _stamp_leaves(unit, gone) else "untouched")

    def state(self, found: Attributes) -> str:
        return found.get("active") or super().state(found)

    def advice(self, differing: Mapping[str, object]) -> str:
        journal, anew = f"`journalctl -u {self.name}` on the host says", f"`systemctl reset-failed {self.name}` there"
        if self.name.startswith("llama-server"):
            journal, anew = "`paddock logs` says", "`paddock restart`"
        said = {
            "units": "remove them, or accept them in the inventory: roles.base.accepted_units",
            "environment": "systemd gives them to every service (systemctl show-environment): unset them, and restart the service",
            "restarts": f"{journal} why it ended; {anew} counts anew",
        }
        return "; ".join(words for name, words in said.items() if name in differing)

    # What comes along

    def resolved(self, known: Mapping[str, Resource]) -> Resource:
        if not self.runs:
            return self
        if missing := [name for name in self.runs if name not in known]:
            raise ResourceError(f"{self.id} runs {', '.join(missing)}, which no role of this host declares")
        return replace(self, restarts=(*self.restarts, *(known[name] for name in self.runs)), runs=())

    def implied(self) -> Iterator[Resource]:
        yield from self.ports
        if self.is_stamped:
            yield Directory(self.dropins)
            yield self.stamp


def _stamp_leaves(unit: str, gone: Iterable[str]) -> bool:
    """Whether its starts were noted. Of one whose were not, Paddock had changed nothing."""
    return any(each.endswith(f"/{unit.rpartition('/')[2]}.d/50-paddock.conf") for each in gone)


def _digest(read: Iterable[Resource]) -> str:
    """Of what a service reads; UNOPENED where that hangs on what nobody here can open."""
    read = tuple(read)
    return UNOPENED if any(each.is_unopened for each in of_kind(read, File)) else digest(read)


def _in_order(services: Sequence[Service]) -> list[Service]:
    """The system's first: so the probe asks."""
    return sorted(services, key=lambda each: bool(each.user))


def _shown(answer: ProbeAnswer) -> Mapping[str, Mapping[str, str]]:
    """`systemctl show` of several units: a block a unit in the order asked for, an empty line between. (An `Id` may be an alias's.)"""
    blocks: list[dict[str, str]] = [{}]
    for line in answer.lines("service"):
        if line:
            name, _, value = line.partition("=")
            blocks[-1][name] = value
        else:
            blocks.append({})
    units = [each.unit for each in _in_order(of_kind(answer.asked, Service))]
    return dict(zip(units, filter(None, blocks), strict=False))


def _declared_files(answer: ProbeAnswer) -> frozenset[str]:
    return frozenset(each.path for each in of_kind(answer.asked, File))


def _also(names: Iterable[str]) -> str:
    return f"declared and {', '.join(found)}" if (found := list(names)) else DECLARED


def _foreign_variables(answer: ProbeAnswer, shown: Mapping[str, str]) -> list[str]:
    """Variables of the running process that its unit does not set: systemd's manager gives them to every service."""
    found = (name for path, name in answer.pairs("environ") if path == f"/proc/{shown.get('MainPID', '')}/environ")
    own = set(re.findall(rf"(?:^|[ \"'])({STEERING})=", shown.get("Environment", "")))
    return sorted(set(found) - own)


def _lately_restarted(answer: ProbeAnswer, shown: Mapping[str, str]) -> str:
    """`none`, or how often systemd had to start it again since somebody last did, and how long ago the last time was."""
    number, time = shown.get("NRestarts", ""), shown.get("ActiveEnterTimestamp") or shown.get("StateChangeTimestamp", "")
    if not number.isdecimal() or number == "0" or not time:
        return "none"
    ago = int(next(iter(answer.lines("clock")), "0")) - _seconds(time)
    return f"{number}, the last {max(0, ago):.0f} s ago" if ago < UNSTABLE_S else "none"


def _seconds(time: str) -> float:
    """`Sat 2026-11-21 20:54:04.123456 UTC` in seconds since 1970"""
    _, date, clock, _ = time.split()
    return datetime.fromisoformat(f"{date}T{clock}+00:00").timestamp()


def _otherwise_before(time: str, resource: Resource, answer: ProbeAnswer) -> bool:
    """Whether what is on disk is not as declared, and has been like that since before `time`, as systemd prints it."""
    if not isinstance(resource, OnDisk):
        return False
    actual = resource.found(answer)
    if all(actual.get(name) == value for name, value in resource.desired.items() if name not in NOT_READ):
        return False
    path = resource.current if isinstance(resource, Release) else resource.path
    changed = changed_at(path, answer) or changed_at(path.rpartition("/")[0], answer)
    return changed is not None and changed < _seconds(time)

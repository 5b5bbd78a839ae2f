"""What hosts had before, out of their own history, and what there is to do for them to have it again: nothing is built for it."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field

from control.deployment import beside
from control.deployment.deployment import Deployment
from control.deployment.replay import Entry, entry_of
from control.deployment.work import Work
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from resources import ModelFile, Release, of_kind
from resources.history import HostHistory, Line, listing_sh

assert control.ssh.cooperative


@dataclass(frozen=True)
class Kept:
    """A host's history, of this fleet: `gone` are the names of the releases in it that do not lie there any more."""

    history: HostHistory
    gone: frozenset[str] = frozenset()

    def is_possible(self, line: Line) -> bool:
        return line.number in self.history.entries and line.release not in self.gone


@dataclass
class Rollback:
    """`entries` is host → what it is to be again, `fleets` the fleet with the host as it was, for its checks; `left` are the hosts that
    stay as they are, and why."""

    entries: dict[str, Entry] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def kept_there(deployment: Deployment) -> dict[str, Kept]:
    """What each host that has answered keeps."""
    places = {name: f"ls -1 '{place}' 2>/dev/null || true" for name, work in deployment.work.items() if (place := _place(work))}
    lying = deployment.run.said(places) if places else {}
    found = {}
    for name, work in deployment.work.items():
        history = work.actual.history.of(deployment.fleet.name)
        named = {line.release for line in history.lines} - {"-"}
        found[name] = Kept(history, frozenset(named - set(lying[name])) if name in lying else frozenset())
    return found


def chosen(history: HostHistory, to: int | None = None) -> Line:
    """What a host is to have again: what it had before, or the entry of this number. Raises PaddockError where there is none."""
    if not history.newest:
        raise PaddockError("its history is empty: it begins with the next run that changes the host")
    if to is None:
        if history.before is None:
            raise PaddockError("its history has no other configuration that it had before")
        return history.before
    line = next((each for each in history.last if each.number == to), None)
    if line is None:
        numbers = ", ".join(str(each.number) for each in history.last) or "none"
        raise PaddockError(f"its history has no entry {to}: it has {numbers}")
    if history.newest == line:
        raise PaddockError(f"entry {to} is what it has: `paddock up` puts right what differs")
    return line


def prepare(deployment: Deployment, to: int | None = None) -> Rollback:
    """Looks at the hosts, reads what each had before, and looks again: from then on `deployment.work` is what there is to do for that.

    `deployment.failures` says why a host cannot have it again: nothing was changed there.
    """
    found = Rollback()
    deployment.survey()
    lines: dict[str, Line] = {}
    for name, work in deployment.work.items():
        try:
            lines[name] = chosen(work.actual.history.of(deployment.fleet.name), to)
        except PaddockError as error:
            found.left[name] = str(error)
    said = deployment.run.said({name: listing_sh((line.number,)) for name, line in lines.items()}) if lines else {}
    for name, line in lines.items():
        try:
            entry = entry_of(line, _decoded(said.get(name, [])))
            found.fleets[name] = entry.as_it_was(name, deployment.fleet)
            found.entries[name] = entry
        except PaddockError as error:
            deployment.run.failures[name] = str(error)
    deployment.hosts = tuple(host for host in deployment.hosts if host.name in found.entries)
    deployment.plans.earlier.update(found.entries)
    deployment.plans.outdated()
    deployment.survey()
    for name, work in list(deployment.work.items()):
        if why := _impossible(work, found.entries[name]):
            deployment.run.failures[name] = f"{why}. Nothing was changed there"
            del deployment.work[name]
    return found


def _place(work: Work) -> str:
    """Where its releases lie."""
    return next((each.path.rpartition("/")[0] for each in of_kind(work.resources, Release)), "")


def _decoded(lines: list[str]) -> bytes:
    try:
        return b64decode("".join(lines), validate=True)
    except (Base64Error, ValueError):
        return b""


def _impossible(work: Work, entry: Entry) -> str:
    """Why a host cannot be so again with what lies on it; empty where it can."""
    if missing := work.missing:
        there = work.actual.resources.get(missing[0].id, {}).get("fingerprint", "")
        words = f"was changed there ({there})" if " " in there else "is not on the host any more"
        return f"{entry.name} serves release {missing[0].name}, which {words}: write its version into the inventory, and run `paddock up`"
    if lacking := [*work.lacking, *_changed_models(work)]:
        return f"{entry.name} serves the model {lacking[0].path}, which the host does not have any more"
    return "; ".join(beside.taken(work))


def _changed_models(work: Work) -> list[ModelFile]:
    return [each for each in work.wrong(ModelFile) if each.is_the_users]


def as_data(kept: Mapping[str, Kept]) -> dict[str, list[dict[str, object]]]:
    """For `--json`: host → its entries, what it had last first."""
    return {
        name: [
            {
                "entry": line.number,
                "current": line == each.history.newest,
                "before": line == each.history.before,
                "possible": each.is_possible(line),
                "release": line.release,
                "at": line.at.isoformat(),
                "verb": line.verb,
                "who": line.who,
            }
            for line in each.history.last
        ]
        for name, each in kept.items()
    }

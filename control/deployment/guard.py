"""Switches that hosts take back by themselves: begun, extended, confirmed, taken back, and what was collected of them."""

from __future__ import annotations

import base64
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from control.ssh.run import Run, ask_as_root, connected  # isort: skip - first of all, for gevent
from pyinfra.api import Host as Target

from control.deployment.work import Work
from control.fetching.archives import members
from control.ssh.failures import LOST, last_words
from control.state.evidence import FILE, keep
from control.state.fleet import FleetState
from inventory.bounds import EVIDENCE, MIB
from inventory.errors import PaddockError
from resources import File, Package, Reached, Release, of_kind, scripts
from resources.guard import Guard, TakenBack, taken_back_of, waiting_words
from resources.guarded import lists_beside
from resources.history import HostEntry
from resources.steps import call

ALONE = """set -eu; umask 077; LC_ALL=C; export LC_ALL; at=; stage=
mkdir -p /run/paddock; [ ! -L /run/paddock/lock ] || rm -f /run/paddock/lock
exec 9>>/run/paddock/lock; flock -w 300 9 || { echo "another run has been changing this host for five minutes" >&2; exit 75; }
trap 'rc=$?; [ $rc = 0 ] || { ! command -v full_disks >/dev/null || full_disks; echo "paddock-at: $at"; } >&2' EXIT
"""
"""What is done beside no other command of a run's: see deploys/applying.py."""


def guard_of(work: Work, id: str, deadline_s: int, says: str = "") -> Guard | None:
    """The guard for a host's work, None where it changes nothing that could be taken back. `id` is the run's, `says` what the switch is
    called, by its release where that is not said; where the same switch waits
    on the host already, its own is taken, so that a rerun goes on with it."""
    if not work.kept:
        return None
    words, waits = says or words_of(work), work.actual.waiting
    # A rerun may find that `current` has moved: then there is no release among its changes, and what waits says which it was.
    goes_on = waits is not None and (words == waits.words or not _switched(work))
    return Guard(waits.id, deadline_s, waits.words) if waits and goes_on else Guard(id, deadline_s, words)


def words_of(work: Work) -> str:
    """`the switch from 0.3.35-1f0c to 0.3.36-8a2b`, `the change of llama-server.service`"""
    for release in _switched(work):
        before = work.actual.resources.get(release.id, {}).get("current", "").rpartition("/")[2]
        return f"the switch from {before} to {release.name}" if before else f"the switch to {release.name}"
    return f"the change of {', '.join(work.kept.units or work.kept.paths)}"[:200]


def _switched(work: Work) -> list[Release]:
    found = [each.resource for each in work.drift.changes if each.resource is not None and each.action != "keep"]
    return of_kind(found, Release)


def irreversible(work: Work) -> Iterator[str]:
    """What keeps a host's work from being taken back, as a whole: it is to be done in a run of its own, before."""
    changes = work.drift.changes
    gone = [each.id for each in changes if each.action == "remove" and not each.id.startswith(f"{Package.kind}:")]
    rules = [each.id for each in changes if each.role == "firewall" and isinstance(each.resource, File) and each.action != "keep"]
    back = [each.resource for each in changes if isinstance(each.resource, File) and each.resource.goes_back and not each.resource.secret]
    lists = {each.id for file in back for each in lists_beside(file, work.resources)} if work.part else set()
    if letting := [each.id for each in changes if each.id in lists and each.action != "keep"]:
        yield f"{_first(letting)} changes, and who is let in is not taken back"
    if gone:
        yield f"{_first(gone)} left the inventory"
    if rules:
        yield f"{_first(rules)} changes, and rules of the firewall are not taken back"


def _first(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def in_the_way(work: Work, guard: Guard | None) -> str:
    """Why nothing may be changed on a host now; empty where it may. Who is let in may change beside what waits: only the rest may not."""
    waits = work.actual.waiting
    if guard and (lines := list(irreversible(work))):
        return f"the host could not take this back by itself: {'; '.join(lines)}: let `paddock up` do that before the version changes"
    if waits and work.kept and (guard is None or guard.id != waits.id):
        return f"{waiting_words(waits, datetime.now())}. Nothing was changed there: confirm it, or wait until it is taken back"
    return ""


@dataclass(frozen=True)
class Switch:
    """A switch on one host, while the run is connected. Each call raises PaddockError with what the host says, or that it is lost."""

    run: Run
    host: str
    guard: Guard

    def extend(self, deadline_s: int | None = None) -> None:
        """It has so many seconds from now on; as many as it began with where nothing else is said."""
        self._do("guard_extend", deadline_s or self.guard.deadline_s, self.guard.id)

    def confirm(self, entry: HostEntry | None = None, reached: Iterable[Reached] = ()) -> None:
        """It stays: no unit, no timer and no copy is left of it, and the host's history has it, even if this run dies meanwhile, and what
        its servers `reached`. Old packages and the manifest are the next run's."""
        noted = [call("history_line", entry.line.text, *entry.gone)] if entry else []
        speeds = [call("speed_note", *lines)] if (lines := [each.text for each in reached]) else []
        said_alone(self.run, self.host, "\n".join([call("guard_confirm", self.guard.id), *noted, *speeds]))

    def take_back(self, why: str, evidence: str) -> TakenBack | None:
        """All is as it was before, now, once what tells of the switch is collected there, with this `evidence` of the control machine's.
        None where nothing had been changed."""
        told = base64.b64encode(evidence.encode()[-MIB:]).decode()
        said = self._do("guard_take_back", self.guard.id, " ".join(why.split())[:500], told)
        try:
            return taken_back_of(dict(tuple(line.split("\t", 1)) for line in said if "\t" in line))  # type: ignore[misc]
        except (ValueError, LookupError):
            raise PaddockError(f"{self.host}: how the switch was taken back makes no sense") from None

    def evidence(self, state: FleetState) -> Path:
        """Fetches what the host has collected into `evidence/HOST-ID/` of the state, where that is. The host then says no more that
        something was taken back."""
        return fetched(self.run, self.host, self.guard.id, state)

    def _do(self, function: str, *arguments: object) -> list[str]:
        return said_alone(self.run, self.host, call(function, *arguments))


def fetched(run: Run, host: str, id: str, state: FleetState) -> Path:
    """As `Switch.evidence`, of a switch that is known by its `id` alone."""
    script = f"cd /var/lib/paddock/evidence/{id}; tar -czf - . | head -c {EVIDENCE.size} | base64; guard_seen"
    packed, what = "".join(said_alone(run, host, script)), f"{host}: what it has collected of the switch {id}"
    try:
        with tempfile.NamedTemporaryFile(dir=state.directory("evidence"), prefix=".") as archive:
            archive.write(base64.b64decode(packed))
            archive.flush()
            files = {
                name: member.content()
                for member in members(Path(archive.name), EVIDENCE, what)
                if member.info.isfile() and FILE.fullmatch(name := member.name.removeprefix("./"))
            }
    except (ValueError, tarfile.TarError, OSError) as error:
        raise PaddockError(f"{what} cannot be read: {error}") from None
    return keep(state, host, id, files)


def said_alone(run: Run, host: str, calls: str) -> list[str]:
    """What calls of the hosts' shell functions print, until one fails, alone on the host; also on one that has failed, while it is
    connected."""
    script = f"{ALONE}{scripts()}\n{{\n{calls}\n}} </dev/null\n"

    def ask(target: Target) -> list[str] | str:
        ok, output = ask_as_root(target, "sh -s", script)
        if ok:
            return list(output.stdout_lines)
        return last_words(output.stderr_lines, "the switch") if connected(target) else LOST

    answer = run.of_each([host], ask, failed=True).get(host, run.failures.get(host, LOST))
    if isinstance(answer, str):
        raise PaddockError(f"{host}: {answer}")
    return answer

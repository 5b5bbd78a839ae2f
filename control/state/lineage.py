"""Which state this is, when certificates or secrets last changed in it, and what hosts were told of that.

    fleet.json    {"id": "3f2a90c1d4e5b687", "changed": "2026-11-29T14:45:11.123456Z", "told": ["2026-11-29T14:45:11.123456Z"],
                   "admits": {"door": "5d41402abc4b2a76"}}

A host's manifest notes the id, and `changed` as it was when the host was changed. A state that was put back from an older backup has not
told hosts what a newer one has, and so it is found out, also after it was changed itself. It is made when a run first changes a host.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from control.state.fleet import FleetState, read, write_atomically
from control.state.lock import admission_lock
from inventory.bounds import from_json
from inventory.errors import PaddockError
from resources import lines_of
from resources.owner import TIME, Owner, time_of

NAME = "fleet.json"
TOLD_MOST = 256
"""So many times are kept. What was told before the first of them is older than all that is kept."""


@dataclass(frozen=True)
class Lineage:
    """`told` are the times, each a former `changed`, that hosts may have in their manifests; the last one comes last. `admits` is by host
    a digest of all that decides there who is let in."""

    id: str
    changed: datetime
    told: tuple[datetime, ...] = ()
    admits: Mapping[str, str] = field(default_factory=dict)

    def has_told(self, changed: datetime) -> bool:
        """Whether hosts may have this from here, and not from a newer copy of the state."""
        return changed in self.told or (len(self.told) == TOLD_MOST and changed < self.told[0])


def lineage_of(state: FleetState) -> Lineage | None:
    """None where no run has changed a host yet. Raises PaddockError where the file is damaged."""
    text = read(state.path / NAME)
    if text is None:
        return None
    try:
        values = from_json(text)
        admits = {str(host): str(digest) for host, digest in values.get("admits", {}).items()}
        found = Lineage(values["id"], time_of(values["changed"]), tuple(map(time_of, values["told"])), admits)
        if re.fullmatch("[0-9a-f]{16}", found.id):
            return found
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise PaddockError(
        f"{state.path / NAME}: is damaged: put it back from a backup or from git, or delete it: then hosts are another state's, "
        "and `paddock up --take-over` takes them over"
    )


def note_change(state: FleetState, after: Iterable[datetime] = ()) -> None:
    """To be called before certificates or secrets change: from now on the state is another one than hosts know, and later than these."""
    if lineage_of(state):
        with admission_lock(state):
            found = lineage_of(state)
            assert found
            _write(state, replace(found, changed=_later(found.changed, *after)))


def note_admission(state: FleetState, admits: Mapping[str, str], changing: Collection[str]) -> None:
    """To be called before who is let in changes on hosts, with a digest of that by host: where one is new on a host that this run is
    `changing` in that, the state is another one. The others are so already."""
    with admission_lock(state):
        found = lineage_of(state)
        new = {host for host, digest in admits.items() if found and found.admits.get(host) != digest}
        if new & set(changing):
            note_change(state)
            found = lineage_of(state)
        if found and new:
            _write(state, replace(found, admits={**found.admits, **admits}))


def told_hosts(state: FleetState) -> Owner:
    """What hosts are to note, of a state that knows from now on that they do: to be called before the first is changed."""
    with admission_lock(state):
        found = lineage_of(state)
        if found is None:
            _admit(state)
            found = Lineage(secrets.token_hex(8), datetime.now(UTC))
        if found.changed not in found.told:
            _write(state, replace(found, told=(*found.told, found.changed)[-TOLD_MOST:]))
        return Owner(state.fleet, found.id, found.changed)


def adopt(state: FleetState, owners: Collection[Owner]) -> Lineage:
    """The state becomes the one that these hosts know, of one id, and newer than it was there: they take it for the newest."""
    (id,) = {each.id for each in owners}
    with admission_lock(state):
        found = lineage_of(state)
        if found is None:
            _admit(state)
        newest = max(each.changed for each in owners)
        before = found.told if found and found.id == id else ()
        told = sorted({*before, *(each.changed for each in owners)})
        adopted = Lineage(id, _later(newest), tuple(told)[-TOLD_MOST:])  # what they admit, the next run finds out
        _write(state, adopted)
        return adopted


def _later(*times: datetime) -> datetime:
    """Now, or the moment after all of these, where a clock was wrong."""
    return max(datetime.now(UTC), max(times) + timedelta(microseconds=1))


def _write(state: FleetState, lineage: Lineage) -> None:
    told = [each.strftime(TIME) for each in lineage.told]
    said = {"id": lineage.id, "changed": lineage.changed.strftime(TIME), "told": told, "admits": dict(sorted(lineage.admits.items()))}
    write_atomically(state.directory() / NAME, json.dumps(said, indent=1) + "\n")


def _admit(state: FleetState) -> None:
    """Into git, also where the state is older than the file: a copy without it would be taken for another state."""
    path, line = state.directory() / ".gitignore", f"!/{NAME}"
    text = (read(path) or b"").decode(errors="replace")
    if line not in lines_of(text):
        write_atomically(path, f"{text.rstrip()}\n{line}\n")

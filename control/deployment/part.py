"""What a host is to have of one role, where the program of that gets another version."""

from __future__ import annotations

from dataclasses import replace

from control.deployment.work import Work
from resources import Directory, of_kind
from resources.drift import Change, Drift


def role_alone(work: Work, role: str, *, leaves: bool = False) -> Work:
    """The changes of that role. What left the inventory stays, but for what it has no more in directories of its own, where that `leaves`.
    Other roles are left as they are."""
    own = {each.path for each in of_kind(work.plan.get(role, ()), Directory) if each.exclusive and leaves}
    changes = tuple(each for each in work.drift.changes if each.role == role or _left(each, own))
    ids, gone = {each.id for each in work.plan.get(role, ())}, {each.id for each in changes if each.action == "remove"}
    claims = {**work.actual.manifest, **{name: origin for name, origin in work.drift.manifest.items() if name in ids}}
    manifest = {name: origin for name, origin in claims.items() if name not in gone}
    drift = Drift(changes, work.drift.left, manifest, claims, recorded=manifest == work.actual.manifest, partial=True)
    return replace(work, drift=drift, part=role)


def _left(change: Change, directories: set[str]) -> bool:
    kind, _, path = change.id.partition(":")
    return change.action == "remove" and kind == "file" and path.rpartition("/")[0] in directories

"""What a host is to have of one role, where the program of that gets another version."""

from __future__ import annotations

from dataclasses import replace

from control.deployment.work import Work
from resources.drift import Drift


def role_alone(work: Work, role: str) -> Work:
    """The changes of that role; what left the inventory stays, and other roles are left as they are."""
    changes = tuple(each for each in work.drift.changes if each.role == role)
    ids = {each.id for each in work.plan.get(role, ())}
    manifest = {**work.actual.manifest, **{name: origin for name, origin in work.drift.manifest.items() if name in ids}}
    drift = Drift(changes, work.drift.left, manifest, manifest, recorded=manifest == work.actual.manifest, partial=True)
    return replace(work, drift=drift, part=role)

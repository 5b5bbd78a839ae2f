"""The releases that hosts are to have, without what is to serve of them yet."""

from __future__ import annotations

from dataclasses import replace

from control.deployment.work import Work
from resources import Package, Release, User
from resources.drift import Drift


def releases_alone(work: Work) -> Work:
    """The work that lays a new release beside the one that serves, and installs what it needs; nothing that runs is changed."""
    roles = {each.role for each in work.drift.changes if isinstance(each.resource, Release)}
    changes = tuple(
        replace(each, resource=replace(each.resource, ahead=True)) if isinstance(each.resource, Release) else each
        for each in work.drift.changes
        if each.role in roles and isinstance(each.resource, Release | Package)
    )
    # What compiles is installed too, and the account that does is made: both are Paddock's from now on.
    kinds = (f"{Release.kind}:", f"{Package.kind}:", f"{User.kind}:")
    manifest = {**work.actual.manifest, **{name: origin for name, origin in work.drift.manifest.items() if name.startswith(kinds)}}
    drift = Drift(changes, work.drift.left, manifest, manifest, recorded=manifest == work.actual.manifest, partial=True)
    return replace(work, drift=drift, needs={}, alternatives={})

"""What of a plan is not so on a host, and what the host has from Paddock that no plan names any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from facts.state import Actual
from roles.resources import File, ModelFile, OnDisk, Port, Resource, Service

Origin = Literal["put", "kept", "data"]
"""In a host's manifest: `put` there by Paddock, `kept` from before Paddock, or `data` that outlives its place in the inventory."""

REMOVED = ("service", "file", "link", "line", "directory", "model", "release", "package", "user")
"""Kinds that are taken away once no plan names them. What another version of Paddock has noted besides stays noted."""

REVERTED = ("file", "link", "line", "service")
"""Kinds of which something is undone although they were there before Paddock: a backup is put back, a service reads its old files."""

PADDOCKS = ("/opt/paddock/", "/etc/paddock/", "/var/lib/paddock/")
"""The directories that are Paddock's alone."""


@dataclass(frozen=True)
class Change:
    """One line of a plan. `attributes` are name → (actual, desired); `before` and `after` the text of a file that may be shown."""

    sign: Literal["+", "~", "-"]
    role: str
    id: str
    resource: Resource | None = field(default=None, repr=False)
    attributes: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    before: str | None = field(default=None, repr=False)
    after: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Drift:
    """`changes` in the order in which they are made, `left` the data that stays unnamed, `manifest` what the host's is to say."""

    changes: tuple[Change, ...]
    left: tuple[str, ...]
    manifest: Mapping[str, Origin]
    claims: Mapping[str, Origin]
    """The manifest while the run lasts: what is there, and what will be."""

    recorded: bool
    """Whether the host's manifest says just that already, and nothing of a run that died lies about."""

    def __bool__(self) -> bool:
        return bool(self.changes) or not self.recorded

    def of(self, role: str) -> list[Resource]:
        return [each.resource for each in self.changes if each.role == role and each.resource is not None]


def drift(plan: Mapping[str, Iterable[Resource]], actual: Actual, *, data: bool = False) -> Drift:
    """With `data`, data that no plan names goes too."""
    planned = [(role, resource) for role, resources in plan.items() for resource in resources]
    manifest = {each.id: _origin(each, actual) for _, each in planned if _is_ours(each)}
    gone = {name: origin for name, origin in actual.manifest.items() if name not in manifest}
    left = tuple(name for name, origin in gone.items() if origin == "data" and not data)
    unknown = [name for name in gone if name.partition(":")[0] not in REMOVED]
    around = [name for name in gone if any(each.partition(":")[2].startswith(f"{name.removeprefix('directory:')}/") for each in left)]
    manifest |= {name: gone[name] for name in (*left, *unknown, *around)}  # type: ignore[misc]
    removed = [
        name
        for name, origin in gone.items()
        if name not in manifest
        and (origin == "put" or (origin == "data" and data) or (origin == "kept" and name.partition(":")[0] in REVERTED))
    ]
    return Drift(
        changes=(*(Change("-", "", name) for name in reversed(removed)), *_changes(planned, actual)),
        left=left,
        manifest=manifest,
        claims={**actual.manifest, **manifest},  # type: ignore[dict-item]
        recorded=manifest == actual.manifest and not actual.rest,
    )


def _is_ours(resource: Resource) -> bool:
    return not isinstance(resource, Port) and not (isinstance(resource, ModelFile) and resource.origin == "host")


def _origin(resource: Resource, actual: Actual) -> Origin:
    if isinstance(resource, ModelFile) and resource.keep:
        return "data"
    if noted := actual.manifest.get(resource.id):
        return noted  # type: ignore[return-value]
    found = actual.resources.get(resource.id)
    if isinstance(resource, Service) and found and found["active"] != "active":
        return "put"  # it did not run: that is how it is to be again
    return "kept" if found and not _is_paddocks(resource, actual) else "put"


def _is_paddocks(resource: Resource, actual: Actual) -> bool:
    """Whether it cannot have been there before: it lies where nobody but Paddock puts anything, or is to the letter what Paddock makes,
    and the manifest was lost.
    """
    return (isinstance(resource, OnDisk) and f"{resource.path}/".startswith(PADDOCKS)) or (
        isinstance(resource, (File, Service)) and not actual.differing(resource)
    )


def _changes(planned: Iterable[tuple[str, Resource]], actual: Actual) -> Iterator[Change]:
    for role, resource in planned:
        if attributes := actual.differing(resource):
            before, after = _texts(resource, actual, attributes)
            sign: Literal["+", "~"] = "~" if resource.id in actual.resources else "+"
            yield Change(sign, role, resource.id, resource, attributes, before, after)


def _texts(resource: Resource, actual: Actual, attributes: Mapping[str, object]) -> tuple[str | None, str | None]:
    if not isinstance(resource, File) or resource.secret or "sha256" not in attributes:
        return None, None
    try:
        after = resource.data.decode()
    except UnicodeDecodeError:
        return None, None
    return actual.texts.get(resource.path), after


def manifest_text(manifest: Mapping[str, Origin]) -> str:
    """As it lies on the host: a line a resource, `put file:/etc/caddy/Caddyfile`, in the order of the plan."""
    return "".join(f"{origin} {name}\n" for name, origin in manifest.items())

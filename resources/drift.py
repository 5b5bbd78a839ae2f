"""What of a plan is not so on a host, what the host has from Paddock that no plan names any more, and what is to happen to each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from resources import File, Resource, Service, kind_of
from resources.base import Action, Origin
from resources.leaving import AT_ONCE, stages
from resources.owner import Owner
from resources.probe import Actual


@dataclass(frozen=True)
class Change:
    """What happens to one resource, decided here once: showing and doing read it.

    `sign` says whether it is new, differs, or leaves; `attributes` are name → (actual, desired), none where only what is around it differs;
    `before` and `after` are the text of a file that may be shown. `resource` is None where no plan names it any more: then `stage` says
    when it leaves (resources/leaving.py).
    """

    action: Action
    sign: Literal["+", "~", "-"]
    role: str
    id: str
    resource: Resource | None = field(default=None, repr=False)
    attributes: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    before: str | None = field(default=None, repr=False)
    after: str | None = field(default=None, repr=False)
    stage: str = AT_ONCE

    @property
    def told(self) -> Mapping[str, tuple[str, str]]:
        """The attributes that may be shown: the digest of a secret would tell it from others."""
        hidden = self.resource.hidden if self.resource else frozenset[str]()
        return {name: value for name, value in self.attributes.items() if name not in hidden}

    @property
    def starts(self) -> bool:
        """Whether a service is started or restarted."""
        return isinstance(self.resource, Service) and not self.resource.is_trigger and self.action in ("put", "restart")


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

    late: frozenset[str] = frozenset()
    """The roles that come after what leaves last: they keep callers away from its ports until then."""

    partial: bool = False
    """Whether more may differ than what is to change."""

    unknown: tuple[str, ...] = ()
    """What another version of Paddock has noted and this one has no kind for: it stays, on the host and in the manifest."""

    def __bool__(self) -> bool:
        return any(change.action != "keep" for change in self.changes) or not self.recorded

    def of(self, role: str) -> list[Change]:
        """The changes of what a role declares."""
        return [change for change in self.changes if change.role == role and change.resource is not None]

    @property
    def gone(self) -> list[str]:
        """The ids of what is taken away, in order."""
        return [change.id for change in self.changes if change.action == "remove"]

    def leaving(self, stage: str) -> list[str]:
        """The ids of what is taken away at one time, in order."""
        return [change.id for change in self.changes if change.action == "remove" and change.stage == stage]


def drift(plan: Mapping[str, Iterable[Resource]], actual: Actual, *, data: bool = False, guards: Collection[str] = ()) -> Drift:
    """With `data`, data that no plan names goes too. `guards` are the roles that keep callers away from ports."""
    planned = {role: tuple(resources) for role, resources in plan.items()}
    noted = ((each.id, each.noted_as(actual)) for resources in planned.values() for each in resources if each.noted)
    manifest = {name: origin for name, origin in noted if origin}
    unnamed = {name: origin for name, origin in actual.manifest.items() if name not in manifest}
    left = tuple(name for name, origin in unnamed.items() if origin == "data" and not data)
    unknown = tuple(name for name in unnamed if not _is_known(name))
    around = [name for name in unnamed if any(each.partition(":")[2].startswith(f"{name.removeprefix('directory:')}/") for each in left)]
    manifest |= {name: unnamed[name] for name in (*left, *unknown, *around)}
    removed = {name: origin for name, origin in unnamed.items() if name not in manifest and _leaves(name, origin, data)}
    changes = tuple(_changes(planned, actual))
    when, late = stages(removed, planned, actual, {change.id: change.action for change in changes}, guards)
    return Drift(
        changes=(*(Change("remove", "-", "", name, stage=when[name]) for name in reversed(removed)), *changes),
        left=left,
        manifest=manifest,
        claims={**actual.manifest, **manifest},
        recorded=manifest == actual.manifest and not actual.rest,
        late=frozenset(guards if late else ()),
        unknown=unknown,
    )


def with_newest(found: Drift, plan: Mapping[str, Iterable[Resource]]) -> Drift:
    """The same changes, to what a newer plan has; what that has no more, and the rest of what it has, is another run's to change."""
    planned = {each.id: each for resources in plan.values() for each in resources}
    changes = [
        replace(each, resource=planned[each.id]) if each.resource else each
        for each in found.changes
        if not each.resource or each.id in planned
    ]
    return replace(found, changes=tuple(changes))


def _is_known(name: str) -> bool:
    """Whether it can be taken away."""
    kind = kind_of(name.partition(":")[0])
    return kind is not None and kind.phase != "never"


def _leaves(name: str, origin: Origin, data: bool) -> bool:
    """Whether something is done about what no plan names any more: of what was there before, only where that can be undone."""
    kind = kind_of(name.partition(":")[0])
    return origin == "put" or (origin == "data" and data) or (origin == "kept" and kind is not None and kind.reverts)


def _changes(planned: Mapping[str, tuple[Resource, ...]], actual: Actual) -> Iterator[Change]:
    for role, resources in planned.items():
        differing = {each.id: found for each in resources if (found := actual.differing(each))}
        wrong = frozenset(differing)
        for resource in resources:
            if action := resource.action(actual, wrong):
                attributes = differing.get(resource.id, {})
                before, after = _texts(resource, actual, attributes)
                yield Change(
                    action, "~" if resource.id in actual.resources else "+", role, resource.id, resource, attributes, before, after
                )


def _texts(resource: Resource, actual: Actual, attributes: Mapping[str, object]) -> tuple[str | None, str | None]:
    if not isinstance(resource, File) or resource.secret or "sha256" not in attributes:
        return None, None
    try:
        after = resource.data.decode()
    except UnicodeDecodeError:
        return None, None
    return actual.texts.get(resource.path), after


def manifest_text(manifest: Mapping[str, Origin], owner: Owner | None = None) -> str:
    """As it lies on the host: whose that is, then a line a resource, `put file:/etc/caddy/Caddyfile`, in the order of the plan."""
    return "".join(f"{line}\n" for line in (*((owner.line,) if owner else ()), *(f"{origin} {name}" for name, origin in manifest.items())))

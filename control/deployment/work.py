"""What there is to do on one host: its plan, what it is now, and the difference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import Recipe
from control.models.curl import curl_configuration
from control.models.origins import Request, asked_of
from resources import File, ModelFile, Release, Resource, Service, of_kind
from resources.base import Origin, R
from resources.drift import Change, Drift
from resources.guard import Guard
from resources.guarded import Kept, kept, kept_versions
from resources.history import HostEntry
from resources.owner import Owner
from resources.probe import Actual
from roles import ROLES
from roles.host_plan import HostPlan

STAGES = ROLES
"""Every host goes through the stages of all roles, whether it carries a role or not: pyinfra keeps hosts apart otherwise."""


ADMITTING = frozenset({"caddy", "client", "firewall", "admin", "rpc_worker"})
"""The roles that decide who is let in."""

STAYS_NEW = ADMITTING | {"gateway", "litellm", "postgres"}
"""The roles of which nothing is taken back: the gateway's configuration says whose keys it takes, and its data is what is new has made
of it."""


@dataclass(frozen=True)
class Wanted:
    """A release that is not among the artifacts: how it is made, and where it is to lie here once it is.

    `source` is what the host is sent to compile: None where it is made of packages, and where `is_there` says that it lies on the host
    already and is only packed.
    """

    release: Release
    recipe: Recipe
    source: Path | None
    artifacts: Artifacts
    distribution: str
    """That it is built for."""
    is_there: bool = False


@dataclass(frozen=True)
class Turn:
    """The `number` of a host, from 0 up, out of how many."""

    number: int = 0
    of: int = 1


@dataclass(frozen=True)
class Work:
    """`needs` is role → the hosts that must be ready before, `doors` those that must be before what left the inventory leaves, if it leaves
    last; `payload` has the local file of each resource that is no text, by its id.

    `builds` is what the host is to compile, for itself or for others. `asks` has, by the id of a model's file, where it may come from;
    `trials`, by the id of a release, the archive that it is tried with before it serves.
    """

    plan: HostPlan
    actual: Actual
    drift: Drift
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    payload: Mapping[str, Path] = field(default_factory=dict)
    builds: tuple[Wanted, ...] = ()
    asks: Mapping[str, tuple[Request, ...]] = field(default_factory=dict)

    doors: frozenset[str] = frozenset()

    alternatives: Mapping[str, tuple[frozenset[str], ...]] = field(default_factory=dict)
    """Role → hosts of which one must be ready before."""

    turns: Mapping[str, Turn] = field(default_factory=dict)
    """Role → when its services come, where they are not to at the same time as those of other hosts."""

    trials: Mapping[str, bytes] = field(default_factory=dict)
    """Release id → the archive that its gate tries it with."""

    owner: Owner | None = None
    """Whose the host is, as its manifest is to say."""

    lease: str = ""
    """The id of the run that has the lease of the host; empty where it takes none."""

    renew: Callable[[Work], Work] | None = field(default=None, repr=False)

    @property
    def newest(self) -> Work:
        """This work as it is to be now: who is let in may have changed since it was made. Raises PaddockError where it cannot be made."""
        return self.renew(self) if self.renew else self

    artifacts: Artifacts | None = None
    """Where the releases are that it is given."""

    guard: Guard | None = None
    """With one, the host takes the roles' changes back unless they are confirmed."""
    part: str = ""
    """The role whose program gets another version, where nothing else is to change."""
    entry: HostEntry | None = None
    """What the host is to keep of the configuration that it gets; None where it is the one that it has."""

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(each for part in self.plan.values() for each in part)

    @property
    def part_of_plan(self) -> HostPlan:
        """What of the plan is so once this work is done: other roles may wait for `up`."""
        return {self.part: self.plan[self.part]} if self.part else self.plan

    def wrong(self, kind: type[R]) -> list[R]:
        """The resources of a kind that are not as declared."""
        found = (change.resource for part in self.plan for change in self.drift.of(part) if change.attributes)
        return [each for each in found if isinstance(each, kind)]

    @property
    def lacking(self) -> list[ModelFile]:
        """The models' files that are to come to the host: what it has under another name is not."""
        held = set(self.actual.held.values())
        return [each for each in self.wrong(ModelFile) if each.sha256 not in held]

    @cached_property
    def shown(self) -> tuple[Change, ...]:
        """The changes that are a person's business: a stamp changes with its service, and only with it."""
        stamps = {name for each in self.resources if isinstance(each, Service) for name in (each.stamp.id, f"directory:{each.dropins}")}
        changes = (each for each in self.drift.changes if each.action != "keep" and each.id not in stamps)
        return tuple(each for each in changes if each.action != "remove" or not each.id.endswith(".service.d/50-paddock.conf"))

    @property
    def unopened(self) -> tuple[File | Service, ...]:
        """The secret files, and the services that read one, of which nobody here can tell how they are to be."""
        found = (each for each in self.resources if isinstance(each, Service) or (isinstance(each, File) and each.secret))
        return tuple(each for each in found if each.is_unopened)

    @cached_property
    def kept(self) -> Kept:
        """What the host puts back where it takes its changes back."""
        if self.part:
            return kept_versions(self.drift.changes, self.resources)
        return kept(self.drift.changes, self.resources, STAYS_NEW)

    def is_guarded(self, role: str) -> bool:
        """Whether a change of this role is a part of what the host takes back."""
        if self.part:
            return self.guard is not None and role == self.part
        services = of_kind((each.resource for each in self.drift.of(role) if each.resource), Service)
        return self.guard is not None and (role not in STAYS_NEW or any(each.unit in self.kept.units for each in services))

    def stamps(self, role: str) -> frozenset[str]:
        """The ids of the files that note what a role's services were started with."""
        return frozenset(each.stamp.id for each in self.plan.get(role, ()) if isinstance(each, Service))

    @property
    def missing(self) -> tuple[Release, ...]:
        """The releases that do not lie on the host yet."""
        return tuple(each for each in self.wrong(Release) if not each.lies_on(self.actual.resources.get(each.id, {})))

    # What resources ask while their steps are made: see resources.base.Landing

    def origin(self, resource: Resource) -> Origin:
        return self.drift.manifest.get(resource.id, "put")

    def manifest_of(self, release: Release) -> Callable[[], bytes]:
        artifacts = self.artifacts
        assert artifacts
        return lambda: artifacts.signed_manifest(release).encode()

    def curl(self, resource: Resource) -> tuple[str, ...]:
        asked = self.asks.get(resource.id) or (asked_of(resource) if isinstance(resource, ModelFile) else ())
        return tuple(map(curl_configuration, asked))


def admits(work: Work) -> str:
    """A digest, in hex, of all that decides on a host who is let in, as its plan has it."""
    decides = ((each.id, dict(each.desired)) for role in sorted(ADMITTING & work.plan.keys()) for each in work.plan[role])
    return hashlib.sha256(json.dumps(sorted(decides, key=str), sort_keys=True).encode()).hexdigest()[:16]


def changes_admission(work: Work) -> bool:
    """Whether the host lets in others than before once this work is done, as far as its changes tell; what is removed has no role."""
    return any(each.role in ADMITTING or each.action == "remove" for each in work.drift.changes)

"""What there is to do on one host: its plan, what it is now, and the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control.artifacts import Artifacts
from facts.drift import Drift
from facts.state import Actual
from roles.host_plan import HostPlan
from roles.resources import Release, Resource

TINY = "a tiny model"
"""In a payload: what a release is tried with before it serves."""


@dataclass(frozen=True)
class Wanted:
    """A release that nobody has: its source here, and where it is to lie here once it is built."""

    release: Release
    source: Path
    artifacts: Artifacts
    distribution: str
    """That it is built for."""


@dataclass(frozen=True)
class Work:
    """`needs` is role → the hosts that must be ready before; `payload` has the local file of each resource that is no text, by its id.

    `builds` is what the host is to compile, for itself or for others.
    """

    plan: HostPlan
    actual: Actual
    drift: Drift
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    payload: Mapping[str, Path] = field(default_factory=dict)
    builds: tuple[Wanted, ...] = ()

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(each for part in self.plan.values() for each in part)

    def wrong(self, *kinds: type[Resource]) -> list[Resource]:
        """The resources of these kinds that are not as declared."""
        return [each for part in self.plan for each in self.drift.of(part) if isinstance(each, kinds)]

    @property
    def missing(self) -> tuple[Release, ...]:
        """The releases that do not lie on the host yet."""
        wrong = [each for each in self.wrong(Release) if isinstance(each, Release)]
        return tuple(each for each in wrong if self.actual.resources.get(each.id, {}).get("fingerprint") != each.fingerprint)

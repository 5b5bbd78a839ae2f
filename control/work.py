"""What there is to do on one host: its plan, what it is now, and the difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from facts.drift import Drift
from facts.state import Actual
from roles.host_plan import HostPlan
from roles.resources import Release, Resource


@dataclass(frozen=True)
class Work:
    """`needs` is role → the hosts that must be ready before; `payload` has the local file of each resource that is no text, by its id."""

    plan: HostPlan
    actual: Actual
    drift: Drift
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    payload: Mapping[str, Path] = field(default_factory=dict)

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(each for part in self.plan.values() for each in part)

    def wrong(self, *kinds: type[Resource]) -> list[Resource]:
        """The resources of these kinds that are not as declared."""
        return [each for part in self.plan for each in self.drift.of(part) if isinstance(each, kinds)]

    @property
    def unbuilt(self) -> Iterator[Release]:
        """The releases that the host does not have."""
        for each in self.wrong(Release):
            if isinstance(each, Release) and self.actual.resources.get(each.id, {}).get("fingerprint") != each.fingerprint:
                yield each

    @property
    def builds(self) -> Iterator[tuple[Release, Path]]:
        """Those of them whose source is at hand."""
        for release in self.unbuilt:
            if release.id in self.payload:
                yield release, self.payload[release.id]

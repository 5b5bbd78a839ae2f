"""The release that each host is to serve, as far as that is known without a connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from control.deployment.knowledge import knowledge_for
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import serves
from control.state.fleet import FleetState
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Artifact, Knowledge
from resources import Release


@dataclass(frozen=True)
class ServedReleases:
    """By host: the releases, and of hosts that have none why."""

    releases: Mapping[str, Release]
    failures: Mapping[str, str]


def served_releases(fleet: Fleet, hosts: Iterable[Host], knowledge: Knowledge) -> ServedReleases:
    hosts = tuple(hosts)
    found = {host.name: release for host in hosts if (release := knowledge.releases.get(host.name))}
    failures = {name: str(error) for name, error in found.items() if isinstance(error, PaddockError)}
    missing = (host.name for host in hosts if host.name not in found and serves(fleet, host.name))
    unknown = dict.fromkeys(missing, "its hardware is not known yet: run `paddock plan`")
    releases = {name: release for name, release in found.items() if isinstance(release, Release)}
    return ServedReleases(releases, {host.name: why for host in hosts if (why := (failures | unknown).get(host.name))})


def hosts_by_fingerprint(fleet: Fleet, state: FleetState) -> dict[str, list[str]]:
    """Fingerprint of a release → the hosts that are to serve it."""
    served: dict[str, list[str]] = {}
    for host, release in knowledge_for(fleet, state, now=datetime.now(UTC)).releases.items():
        if isinstance(release, Release):
            served.setdefault(release.fingerprint, []).append(host)
    return served


def prunable(fleet: Fleet, state: FleetState, names: Iterable[str]) -> Iterator[tuple[Artifact, list[str]]]:
    """The artifacts named, or else those that no host is to serve, each with the hosts that would have it built again.

    Raises UsageError where without names it cannot be known what a host is to serve.
    """
    served, names, artifacts = hosts_by_fingerprint(fleet, state), tuple(names), Artifacts(state)
    if unknown := [host.name for host in fleet.hosts_with("llama_cpp") if not names and not state.hardware(host.name)]:
        known = "nothing is known of their hardware"
        raise UsageError(f"{', '.join(unknown)}: {known}: `paddock plan` looks at it; or name the artifacts to remove")
    if not names:
        yield from ((each, []) for each in artifacts.unsigned())
    for each in map(artifacts.named, names) if names else artifacts.recorded():
        hosts = served.get(each.fingerprint, [])
        if names or not hosts:
            yield each, hosts

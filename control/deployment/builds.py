"""Who compiles what in a run: each release that is missing once, on its builder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control.deployment.work import Wanted
from control.fetching.progress import Download
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import recipe_of, require_memory, source_for
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import Release


@dataclass
class Assigned:
    """`builds` is builder → what it is to compile, `waits` host → whom it waits for, `failures` host → why its release cannot be built."""

    builds: dict[str, tuple[Wanted, ...]] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def assigned(
    missing: Mapping[str, Iterable[Release]], fleet: Fleet, state: FleetState, knowledge: Knowledge, there: Collection[str]
) -> Assigned:
    """Has every release that a host lacks and that is not among the artifacts built by its builder, once. Fetches its source.

    `missing` is host → the releases that it lacks; only builders that are `there` can be given anything.
    """
    artifacts = Artifacts(state)
    found = Assigned()
    sources: dict[tuple[str, bool], Path | PaddockError] = {}
    for name, release in ((name, each) for name, releases in missing.items() for each in releases):
        if artifacts.has(release):
            continue
        if release.builder not in there:
            found.failures[name] = (
                f"release {release.name} needs its builder {release.builder}, which failed or is not in this run: "
                f"name {release.builder} in `--limit` too, or leave that away"
            )
            continue
        found.waits[name] = release.builder
        before = found.builds.get(release.builder, ())
        if any(each.release.fingerprint == release.fingerprint for each in before):
            continue
        try:
            require_memory(release, knowledge.hardware[release.builder])
            source = _source(fleet, name, state.inventory.parent, sources)
        except PaddockError as error:
            found.failures[name] = str(error)
            continue
        build = Wanted(release, recipe_of(release), source, artifacts, knowledge.hardware[name].distribution)
        found.builds[release.builder] = (*before, build)
    return found


def _source(fleet: Fleet, host: str, beside: Path, asked: dict[tuple[str, bool], Path | PaddockError]) -> Path:
    """The archive to send. What failed once in a run is not tried again for every host: a web page takes minutes."""
    from control.llama_cpp.sources import source_archive  # what fetches is loaded by the runs that fetch

    source, ui = source_for(fleet, host)
    key = source.identity, ui
    if key not in asked:
        try:
            asked[key] = source_archive(source, beside, Download(), ui=ui)
        except PaddockError as error:
            asked[key] = error
    found = asked[key]
    if isinstance(found, PaddockError):
        raise found
    return found

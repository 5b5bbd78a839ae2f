"""Who compiles what in a run: each release that is missing once, on its builder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from control.artifacts import Artifacts
from control.payload import Download
from control.state import FleetState
from control.work import Wanted
from inventory.context import Context
from inventory.errors import PaddockError
from inventory.schema import Fleet
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import check_room
from roles.resources import Release

ROLE = "llama_cpp"


@dataclass
class Assigned:
    """`builds` is builder → what it is to compile, `waits` host → whom it waits for, `failures` host → why its release cannot be built."""

    builds: dict[str, tuple[Wanted, ...]] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def assigned(
    missing: Mapping[str, Iterable[Release]], fleet: Fleet, state: FleetState, context: Context, there: Collection[str]
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
                f"release {release.name} is to be built by {release.builder}, which failed or is not in this run: "
                f"name {release.builder} in `--limit` too, or leave that away"
            )
            continue
        found.waits[name] = release.builder
        before = found.builds.get(release.builder, ())
        if any(each.release.fingerprint == release.fingerprint for each in before):
            continue
        settings = fleet.role(name, ROLE, LlamaCppSettings)
        assert settings
        try:
            # Its disk has changed since it was looked at: the build looks itself.
            check_room(release, replace(context.hardware[release.builder], disk_free_mib=0))
            source = _source(settings, state.inventory.parent, sources)
        except PaddockError as error:
            found.failures[name] = str(error)
            continue
        build = Wanted(release, source, artifacts, context.hardware[name].distribution)
        found.builds[release.builder] = (*before, build)
    return found


def _source(settings: LlamaCppSettings, beside: Path, asked: dict[tuple[str, bool], Path | PaddockError]) -> Path:
    """The archive to send. What failed once in a run is not tried again for every host: a web page takes minutes."""
    from control.sources import source_archive  # what fetches is loaded by the runs that fetch

    key = settings.source.identity, settings.ui
    if key not in asked:
        try:
            asked[key] = source_archive(settings.source, beside, Download(), ui=settings.ui)
        except PaddockError as error:
            asked[key] = error
    found = asked[key]
    if isinstance(found, PaddockError):
        raise found
    return found

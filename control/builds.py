"""Who compiles what in a run: each release that is missing once, on its builder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from control.artifacts import Artifacts
from control.payload import Download
from control.sources import source_archive
from control.state import FleetState
from control.work import Build, Work
from inventory.context import Context
from inventory.errors import PaddockError
from inventory.schema import Fleet
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import check_room
from roles.resources import Release

ROLE = "llama_cpp"


@dataclass
class Assigned:
    """`work` has what is to be built with its builders, and who waits for them; `failures` is host → why its release cannot be built."""

    work: dict[str, Work]
    failures: dict[str, str] = field(default_factory=dict)


def assigned(work: Mapping[str, Work], fleet: Fleet, state: FleetState, context: Context, failed: Collection[str]) -> Assigned:
    """Has every release that a host lacks and that is not among the artifacts built by its builder, once. Fetches its source."""
    artifacts = Artifacts(state)
    source_of = partial(source_archive, beside=state.inventory.parent, progress=Download())
    result = Assigned(dict(work))
    builds: dict[str, dict[str, Build]] = {}
    for name, each in work.items():
        for release in each.missing:
            if artifacts.has(release):
                continue
            builder = release.builder
            if builder not in work or builder in failed:
                result.failures[name] = _unbuilt(release, builder, failed)
                continue
            settings = fleet.role(name, ROLE, LlamaCppSettings)
            assert settings
            try:
                # Its disk has changed since it was looked at: the build looks itself.
                check_room(release, replace(context.hardware[builder], disk_free_mib=0))
                build = Build(release, source_of(settings.source), artifacts, context.hardware[name].distribution)
            except PaddockError as error:
                result.failures[name] = str(error)
                continue
            builds.setdefault(builder, {}).setdefault(release.fingerprint, build)
            result.work[name] = replace(each, needs={**each.needs, ROLE: each.needs.get(ROLE, frozenset()) | {builder} - {name}})
    for builder, wanted in builds.items():
        result.work[builder] = replace(result.work[builder], builds=tuple(wanted.values()))
    return result


def _unbuilt(release: Release, builder: str, failed: Collection[str]) -> str:
    what = f"release {release.name} is to be built by {builder}"
    if builder in failed:
        return f"{what}, which failed"
    return f"{what}, which is not in this run: leave `--limit` away, or name {builder} too"

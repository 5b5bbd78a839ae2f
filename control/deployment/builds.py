"""Where a release comes from that is not among the artifacts: from a host that has it, or else from its builder, which compiles it once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from control.deployment.work import Wanted, Work
from control.fetching.progress import Download
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import recipe_of, require_memory, source_for
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import Package, Release, User, of_kind
from roles.host_plan import HostPlan


@dataclass
class Assigned:
    """`builds` is host → what it is to compile, or to give back, `waits` host → whom it waits for, `failures` host → why its release cannot
    be had."""

    builds: dict[str, tuple[Wanted, ...]] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """The releases, by fingerprint, whose archive is `archived` here, and those that a host has, with that host's name."""

    archived: frozenset[str]
    has: Mapping[str, str]


def kept(works: Mapping[str, Work], artifacts: Artifacts) -> Kept:
    """What a host has is told from anything else by what was recorded here of its files: without that it does not count."""
    recorded = artifacts.recorded()
    known = {each.fingerprint for each in recorded if each.manifest}
    has = {
        release.fingerprint: name
        for name, work in works.items()
        for release in of_kind(work.resources, Release)
        if release.fingerprint in known and release.lies_on(work.actual.resources.get(release.id, {}))
    }
    return Kept(frozenset(each.fingerprint for each in recorded if each.archived), has)


def compiling(works: Mapping[str, Work], artifacts: Artifacts) -> set[str]:
    """The builders that have something to compile for these hosts."""
    where = kept(works, artifacts)
    missing = (release for work in works.values() for release in work.missing)
    return {each.builder for each in missing if each.fingerprint not in (*where.archived, *where.has)}


def with_compilers(plan: HostPlan) -> HostPlan:
    """The plan of a host that has something to compile: with what it compiles with, and the account that does."""
    return {
        role: tuple(replace(each, needed=True) if isinstance(each, Package | User) and not each.needed else each for each in part)
        for role, part in plan.items()
    }


def assigned(
    missing: Mapping[str, Iterable[Release]],
    fleet: Fleet,
    state: FleetState,
    knowledge: Knowledge,
    there: Collection[str],
    where: Kept,
) -> Assigned:
    """Has every release that a host lacks and that is not among the artifacts fetched from a host that has it, or built by its builder,
    once. Fetches its source.

    `missing` is host → the releases that it lacks, `where` says which nobody need build; only hosts that are `there` can be given
    anything to do.
    """
    artifacts = Artifacts(state)
    found = Assigned()
    sources: dict[tuple[str, bool], Path | PaddockError] = {}
    for name, release in ((name, each) for name, releases in missing.items() for each in releases):
        if release.fingerprint in where.archived:
            continue
        giver = where.has.get(release.fingerprint, "")
        maker = giver or release.builder
        if maker not in there:
            found.failures[name] = _out_of_reach(release)
            continue
        found.waits[name] = maker
        before = found.builds.get(maker, ())
        if any(each.release.fingerprint == release.fingerprint for each in before):
            continue
        distribution = knowledge.hardware[name].distribution
        if giver:
            found.builds[giver] = (*before, Wanted(release, recipe_of(release), None, artifacts, distribution, is_there=True))
            continue
        try:
            require_memory(release, knowledge.hardware[release.builder])
            source = None if release.downloads else _source(fleet, name, state.inventory.parent, sources)
        except PaddockError as error:
            found.failures[name] = str(error)
            continue
        build = Wanted(release, recipe_of(release), source, artifacts, distribution)
        found.builds[release.builder] = (*before, build)
    return found


def _out_of_reach(release: Release) -> str:
    if release.builder:
        return (
            f"release {release.name} needs its builder {release.builder}, which failed or is not in this run: "
            f"name {release.builder} in `--limit` too, or leave that away"
        )
    return (
        f"release {release.name}: its archive is not among the fleet's artifacts any more, and no host of this run has the release:"
        f" name one that has it in `--limit` too, `paddock artifacts import` it again, or let another be chosen:"
        f" `paddock artifacts prune {release.name}`"
    )


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

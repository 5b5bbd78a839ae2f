"""The llama.cpp that each host of a fleet is to serve: its source, how it is built, and how it is tried, as the role llama_cpp has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Artifact
from resources import Release, Resource, User
from roles.llama_cpp import gate, recipe
from roles.llama_cpp.releases import releases
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import check_room
from roles.source import Source

ROLE = "llama_cpp"


@dataclass(frozen=True)
class Recipe:
    """How a release is built on a host: the script, the transient unit that runs it, and the paths there."""

    script: str
    unit: str
    account: User
    """Whom it runs as."""
    directory: str
    """It is built here, and the packed release is all that it leaves."""
    directories: str
    """Where the directories of all builds lie."""
    artifact: str
    """The packed release, until it is fetched."""
    root: str
    """The tree of another release of Debian that it is compiled in; empty where the builder's own will do."""
    cache: str
    ccache: str
    """In `cache`."""
    packages: str
    """Where the packages are downloaded to that it is made of; empty where it is compiled."""


def releases_of(
    fleet: Fleet, hardware: Mapping[str, Hardware], beside: Path, artifacts: Iterable[Artifact]
) -> dict[str, Release | PaddockError]:
    """Host → its release, or why there can be none; see `roles.llama_cpp.releases`. Relative paths of sources start at `beside`."""
    return releases(fleet, hardware, dict(_trees(fleet, beside)), artifacts)


def serves(fleet: Fleet, host: str) -> bool:
    """Whether the host is to have a llama.cpp to serve with."""
    settings = fleet.role(host, ROLE, LlamaCppSettings)
    return bool(settings and settings.serve)


def source_for(fleet: Fleet, host: str) -> tuple[Source, bool]:
    """The source of a host's llama.cpp, and whether its web page is built."""
    settings = fleet.role(host, ROLE, LlamaCppSettings)
    assert settings
    return settings.source, settings.has_page


def recipe_of(release: Release) -> Recipe:
    directory = recipe.work(release)
    return Recipe(
        script=recipe.script(release, work=directory),
        unit=recipe.unit(release),
        account=recipe.ACCOUNT,
        directory=directory,
        directories=recipe.WORK,
        artifact=recipe.artifact(release),
        root=recipe.root(release),
        cache=recipe.CACHE,
        ccache=recipe.CCACHE,
        packages=recipe.packages(release),
    )


def require_memory(release: Release, builder: Hardware) -> None:
    """Raises PaddockError where the builder has no memory for a single compiler, if it takes one. Its disk has changed since: the
    build looks itself."""
    if not release.downloads:
        check_room(release, replace(builder, disk_free_mib=0))


def trial_of(release: Release, resources: Iterable[Resource], tiny_model: bytes, *, flags_only: bool = False) -> bytes:
    """The tar archive that resources/gate.sh tries the release with, before it serves, or before its services read something else."""
    return gate.trial(release, resources, tiny_model, flags_only=flags_only)


def _trees(fleet: Fleet, beside: Path) -> Iterator[tuple[str, str]]:
    """The digest of each source tree on this machine, by its path as the inventory has it."""
    found = (source_for(fleet, host.name)[0].path for host in fleet.hosts_with(ROLE))
    paths = {path for path in found if path}
    if paths:
        from control.llama_cpp.sources import tree_digest

        for path in sorted(paths):
            yield path, tree_digest(beside / Path(path).expanduser())

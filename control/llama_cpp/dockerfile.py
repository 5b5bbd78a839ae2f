"""What `docker build` takes to compile a host's llama.cpp: a Dockerfile, the script that compiles, and the source."""

from __future__ import annotations

from pathlib import Path

from control.fetching.download import Progress, silent
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import releases_of, source_for
from control.state.fleet import FleetState, write_atomically
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.llama_cpp.dockerfile import Context, base_images, context


def context_of(host: str, fleet: Fleet, state: FleetState, builder: str = "", runtime: str = "") -> Context:
    """For the hardware of a host, on the images that are named, or those that fit it.

    Raises PaddockError where nothing is known of the host yet, or where nothing can be compiled for it.
    """
    hardware = {name: found for name in fleet.hosts if (found := state.hardware(name))}
    if host not in hardware:
        raise PaddockError(f"{host}: nothing is known of its hardware yet: `paddock plan --limit {host}` looks at it")
    release = releases_of(fleet, hardware, state.inventory.parent, Artifacts(state).recorded()).get(host)
    if isinstance(release, PaddockError):
        raise PaddockError(f"hosts.{host}: {release}")
    if release is None:
        raise PaddockError(f"{host}: no llama.cpp is to serve there: it needs the role llama_cpp, and its builder and source must be known")
    own = base_images(release, hardware[host])
    return context(release, builder or own[0], runtime or own[1])


def write(made: Context, directory: Path, host: str, fleet: Fleet, beside: Path, progress: Progress = silent) -> None:
    """Dockerfile, build.sh and source.tar.gz. The source is fetched, unless it is here already."""
    from control.llama_cpp.sources import source_archive

    source, ui = source_for(fleet, host)
    archive = source_archive(source, beside, progress, ui=ui)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "source.tar.gz", archive.read_bytes(), 0o644)
    write_atomically(directory / "build.sh", made.script.encode(), 0o644)
    write_atomically(directory / "Dockerfile", made.dockerfile.encode(), 0o644)

"""Fetch the sources of llama.cpp to this machine now, and the container images that it brings to hosts; with --lock, pin digests instead.

examples:
  paddock artifacts pull --lock
  paddock artifacts pull --lock llama-cpp-python==0.3.35      pins this one anew
  paddock artifacts pull

Hosts are not connected to: they are sent what they build. An image that the inventory names by a tag alone (`image:
docker.io/library/postgres:17`) gets the digest that its registry has for the tag now, in the inventory's own file; comments stay. Images
are fetched for hosts with `images: artifacts` of the role docker, for the platform of each.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from cli.arguments import kept_inventory
from cli.views.progress import Progress
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet
from inventory.load import load, loaded, require_lock
from roles.wording import did_you_mean, quoted


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="*", help="with --lock: pin these source distributions again")
    command.add_argument("--lock", action="store_true", help="write the lock beside the inventory: what each source distribution is")


def run(options: argparse.Namespace) -> int:
    path = kept_inventory(options)
    if options.lock:
        _pin_images(path)
        return _lock(path, load(path), options.source)
    if options.source:
        raise UsageError("naming sources is for --lock: without it all of them are fetched")
    return _fetch(path)


def _pin_images(path: Path) -> None:
    from control.editing.images import with_digests
    from control.fetching.registry import digest_of

    changed, images = with_digests(path, digest_of)
    if changed:
        changed.keep()
        for image in images:
            print(f"{path}: {image}")


def _lock(path: Path, fleet: Fleet, anew: list[str]) -> int:
    from control.fetching.progress import Download
    from control.llama_cpp.lock import sources, write_lock
    from inventory.source_lock import lock_path

    known = [source.sdist for source in sources(fleet) if source.sdist]
    for name in anew:
        if name not in known:
            raise UsageError(f"no source of {path} is called {quoted(name)}{did_you_mean(name, known)}")
    lock = write_lock(path, fleet, anew, Progress(to_stderr=True).line, Download())
    if not lock.sources:
        print("there is nothing to pin: the digest of each source is known")
        return 0
    many = f"{len(lock.sources)} source{'' if len(lock.sources) == 1 else 's'}"
    print(f"{lock_path(path)}: {many}. It belongs into git, as the inventory does")
    return 0


def _fetch(path: Path) -> int:
    from control.fetching.progress import Download
    from control.llama_cpp.options import learned
    from control.llama_cpp.releases import source_for
    from control.llama_cpp.sources import source_archive

    this, progress = loaded(path), Progress()
    require_lock(this)
    wanted = dict.fromkeys(source_for(this.fleet, host.name) for host in this.fleet.hosts_with("llama_cpp"))
    for source, ui in wanted:
        if source.packages:
            progress.line(f"{source.label}: packages of the distribution, which the host downloads itself")
            continue
        archive = source_archive(source, path.absolute().parent, Download(), ui=ui)
        with suppress(PaddockError):  # what `check` then knows; one that is written as nobody foresaw is built all the same
            learned(source, path.absolute().parent, Download())
        progress.line(f"{source.label}{' with its web page' if ui else ''}: {archive.stat().st_size / (1 << 20):.1f} MiB, {archive}")
    _fetch_images(path, this.fleet, progress)
    return 0


def _fetch_images(path: Path, fleet: Fleet, progress: Progress) -> None:
    from control.deployment.brought_images import brought_images
    from control.fetching.images import image_archive
    from control.fetching.progress import Download
    from control.state.fleet import FleetState

    state, told = FleetState.of(path, fleet.name), set[Path]()
    for host in fleet.hosts.values():
        for image in brought_images(fleet, host):
            hardware = state.hardware(host.name)
            if not hardware:
                raise PaddockError(f"{host.name}: nothing is known of its hardware, and so of its platform: `paddock plan` looks at it")
            archive = image_archive(state, image, hardware.architecture, Download())
            if archive not in told:
                progress.line(f"{image.reference}: {archive.stat().st_size / (1 << 20):.1f} MiB, {archive}")
            told.add(archive)

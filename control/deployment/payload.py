"""The files that travel to a host besides text: releases, models that lie here, package files, wheels, images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from control.deployment.knowledge import programs_of
from control.deployment.work import Work
from control.fetching.progress import Download
from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.releases import trial_of
from control.models.origins import Request, asked_of, origin_of_file
from control.state.fleet import FleetState
from inventory.fleet import Fleet
from resources import File, Image, Package, Release, Service, Venv


def payload_for(work: Work, host: str, fleet: Fleet, state: FleetState) -> dict[str, Path]:
    """Resource id → its file here, or the directory of its wheels, of what the host lacks. Fetches what is missing here.

    Raises PaddockError.
    """
    return dict(_payload(work, host, fleet, state))


def _payload(work: Work, host: str, fleet: Fleet, state: FleetState) -> Iterator[tuple[str, Path]]:
    from control.fetching.images import image_archive
    from control.fetching.packages import package_file
    from control.fetching.wheels import wheels_here

    beside = state.inventory.parent
    for release in work.missing:
        yield release.id, Artifacts(state).archive(release.name)
    named = {
        name: (file, f"{role}.{key}")
        for role, settings in fleet.hosts[host].carried.items()
        for name, key, file in settings.package_files()
    }
    for package in work.wrong(Package):
        if package.deb:
            yield package.id, package_file(*named[package.name], beside, Download())
    for venv in work.wrong(Venv):
        yield venv.id, wheels_here(venv.wheels, programs_of(fleet.hosts[host]), Download())
    for image in work.wrong(Image):
        if image.brought:
            hardware = state.hardware(host)
            assert hardware  # without it there is no plan
            yield image.id, image_archive(state, image, hardware.architecture, Download())
    for model in work.lacking:
        components = (each for name, entry in fleet.served_models(host).items() for each in entry.components(name))
        component, paths = next((each, paths) for each in components if model.path in (paths := fleet.paths(host, each)))
        if file := origin_of_file(model).file_here(component, beside, paths.index(model.path)):
            yield model.id, file


def trials_for(work: Work) -> dict[str, bytes]:
    """Release id → the archive that it is tried with: of what does not serve yet, and of what serves and is to read other files."""
    from control.models.local import tiny_model

    new, tiny = work.wrong(Release), tiny_model().read_bytes()
    started = [change.resource for change in work.drift.changes if change.starts and isinstance(change.resource, Service)]
    wrong = {each.id for each in work.wrong(File)}
    again = {
        each.id: each
        for service in started
        if wrong & {one.id for one in service.restarts}
        for each in service.restarts
        if isinstance(each, Release) and each not in new
    }
    return {
        **{each.id: trial_of(each, work.resources, tiny) for each in new},
        **{name: trial_of(each, work.resources, tiny, flags_only=True) for name, each in again.items()},
    }


def asks_for(work: Work, secrets: Mapping[str, str]) -> dict[str, tuple[Request, ...]]:
    """Resource id → how the host asks for it, of the models that it lacks and fetches itself. Raises PaddockError."""
    return {each.id: asks for each in work.lacking if (asks := asked_of(each, origin_of_file(each).token(secrets)))}

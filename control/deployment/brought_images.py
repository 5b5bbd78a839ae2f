"""The images that the control machine brings to hosts, and which of their files nobody needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from control.fetching.images import PLATFORMS, archive_path
from control.state.fleet import FleetState
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Image, of_kind
from roles.host_plan import host_plan


def brought_images(fleet: Fleet, host: Host) -> tuple[Image, ...]:
    """Of one host. Raises PaddockError where it cannot be planned."""
    if not host.brings_images:
        return ()
    planned = host_plan(host, fleet, Knowledge())
    return tuple(image for part in planned.values() for image in of_kind(part, Image) if image.brought)


def unused_archives(fleet: Fleet, state: FleetState) -> Iterator[Path]:
    """The files of images that no host is brought any more. Raises PaddockError where a host cannot be planned."""
    wanted = set()
    for host in fleet.hosts.values():
        hardware = state.hardware(host.name)
        for image in brought_images(fleet, host):
            wanted |= {archive_path(state, image, each) for each in ([hardware.architecture] if hardware else PLATFORMS)}
    yield from sorted(set((state.path / "artifacts" / "images").glob("*.tar")) - wanted)

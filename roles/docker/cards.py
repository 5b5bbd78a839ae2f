"""NVIDIA's cards for containers: each engine start finds the machine's cards as CDI describes them.

https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html
"""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Host
from inventory.hardware import Hardware
from resources import Directory, File, Package, Resource, Service
from roles.docker.settings import TOOLKIT, DockerSettings
from roles.role import render

FIRST_WITH_CDI = 25
"""https://docs.docker.com/engine/release-notes/25.0/: as a feature that is switched on. From 28.3 on it is so by default."""

DIRECTORY = "/etc/paddock/docker"
SCRIPT = f"{DIRECTORY}/cards.sh"
UNIT = "paddock-cards.service"
AGAIN = "paddock-cards-again"
"""The path unit, and what it starts: a service that has ended well and stays active is not started once more."""

READY = "nvidia-ready.service"
"""The role gpu's: the driver is loaded."""


def resources(host: Host, settings: DockerSettings, hardware: Hardware | None, engine: str) -> Iterator[Resource]:
    """What describes the cards before the engine starts, and anew once another driver is installed; nothing where no container gets any."""
    if not _are_wanted(host, hardware):
        return
    if settings.toolkit:
        yield Package(TOOLKIT, version=settings.toolkit.version, deb=settings.toolkit.sha256)
    script = File(SCRIPT, render("docker/cards.sh", package=TOOLKIT), mode=0o755)
    unit = File(f"/etc/systemd/system/{UNIT}", _unit(engine))
    path = File(f"/etc/systemd/system/{AGAIN}.path", render("docker/paddock-cards-again.path"))
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield script
    yield unit
    yield File(f"/etc/systemd/system/{AGAIN}.service", _unit(""))
    yield path
    yield Service(UNIT, restarts=(unit, script))
    yield Service(f"{AGAIN}.path", restarts=(path,))


def refusals(host: Host, settings: DockerSettings, hardware: Hardware) -> Iterator[str]:
    """An engine that cannot hand out cards."""
    version = hardware.docker.partition(".")[0]
    if _are_wanted(host, hardware) and version.isdecimal() and int(version) < FIRST_WITH_CDI:
        own = "install Docker's own packages (docs.docker.com/engine), and set engine: installed"
        instead = "" if settings.engine == "installed" else f": {own}"
        yield (
            f"hosts.{host.name}: roles.docker.engine: Docker {hardware.docker} cannot give NVIDIA cards to containers, which takes"
            f" {FIRST_WITH_CDI} or newer{instead}"
        )


def _are_wanted(host: Host, hardware: Hardware | None) -> bool:
    return bool(hardware and hardware.nvidia_cards) and any(each.contains_cards() for each in host.carried.values())


def _unit(before: str) -> str:
    """Without an engine that waits for it, it is what the path unit starts."""
    return render("docker/paddock-cards.service.j2", script=SCRIPT, ready=READY, before=before)

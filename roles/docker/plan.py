"""The engine's packages, its configuration and its service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Resource, Service
from roles.docker import cards
from roles.docker.settings import DockerSettings

CONFIGURATION = "/etc/docker/daemon.json"
UNIT = "docker.service"
OLDEST = (20, 10)

CONTAINERD = ("/var/lib/containerd", "/etc/cni")
"""What containerd makes beside the engine's data, and its packages leave."""

WITHOUT_COMPOSE = ("debian 12", "raspbian 12")
"""Distributions whose packages have no Docker Compose 2."""


def plan(host: Host, settings: DockerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    if settings.engine == "installed":
        yield Service(UNIT)
        return
    hardware = knowledge.hardware.get(host.name)
    configuration = File(CONFIGURATION, json.dumps(_configuration(settings, hardware), indent=2) + "\n")
    for package in _packages(hardware):
        yield Package(package)
    yield from cards.resources(host, settings, hardware, UNIT)
    yield Directory("/etc/docker")
    yield configuration
    for path in (settings.data_root, *CONTAINERD):
        yield Directory(path, data=True)
    yield Service(UNIT, restarts=(configuration,))


def refusals(host: Host, settings: DockerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """Where there is no engine to be had that could do it."""
    where, hardware = f"hosts.{host.name}: roles.docker.engine", knowledge.hardware.get(host.name)
    if hardware is None:
        return
    if settings.engine == "distribution" and hardware.distribution in WITHOUT_COMPOSE:
        yield (
            f"{where}: {hardware.distribution} has no package of Docker Compose 2: install Docker's own packages (docs.docker.com/engine),"
            " and set engine: installed"
        )
    if settings.engine == "installed" and hardware.docker:
        version = tuple(int(part) for part in hardware.docker.split(".")[:2])
        if version < OLDEST:
            yield f"{where}: Docker {hardware.docker} is too old: {'.'.join(map(str, OLDEST))} or newer"
            return
    yield from cards.refusals(host, settings, hardware)


def _packages(hardware: Hardware | None) -> tuple[str, ...]:
    """Ubuntu has Compose 2 beside its older one, Debian has it in that one's place. The firewall's rules come with iptables, which Docker
    needs and only recommends."""
    if hardware and hardware.distribution.startswith("ubuntu"):
        return ("docker.io", "docker-compose-v2", "iptables")
    return ("docker.io", "docker-cli", "docker-compose", "iptables")


def _configuration(settings: DockerSettings, hardware: Hardware | None) -> dict[str, Any]:
    """As dockerd(8) reads it. Its sockets stay systemd's; what publishes a port without an address publishes it on loopback. NVIDIA's cards
    are named as CDI names devices, which has to be switched on: https://docs.docker.com/reference/cli/dockerd/#configure-cdi-devices"""
    return {
        "data-root": settings.data_root,
        "live-restore": settings.live_restore,
        "log-driver": "local",
        "log-opts": {"max-size": settings.log_size, "max-file": str(settings.log_files)},
        "ip": "127.0.0.1",
        "no-new-privileges": True,
        **({"features": {"cdi": True}} if hardware and hardware.nvidia_cards else {}),
    }

"""NVIDIA's driver on a host, and a unit that loads it before llama-server starts, which may not load it itself."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.context import Context
from inventory.schema import Fleet, Host
from roles.gpu import nvidia
from roles.gpu.settings import GpuSettings
from roles.resources import Directory, File, Package, Resource, Service
from roles.role import render

SCRIPT = "/etc/paddock/gpu/nvidia-ready.sh"
UNIT = "nvidia-ready.service"


def plan(host: Host, settings: GpuSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    if not settings.nvidia:
        return
    if hardware := context.hardware.get(host.name):
        for package in nvidia.packages(hardware, settings.nvidia.driver):
            yield Package(package)
    script = File(SCRIPT, render("gpu/nvidia-ready.sh"), mode=0o755)
    unit = File(f"/etc/systemd/system/{UNIT}", render("gpu/nvidia-ready.service.j2", script=SCRIPT))
    yield Directory("/etc/paddock")
    yield Directory("/etc/paddock/gpu", exclusive=True)
    yield script
    yield unit
    yield Service(UNIT, restarts=(unit, script))

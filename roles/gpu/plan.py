"""NVIDIA's driver on a host, loaded before llama-server starts, which may not load it itself; the power of its cards; AMD's memory."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Resource, Service
from roles.gpu import nvidia
from roles.gpu.settings import Amd, GpuSettings, Nvidia
from roles.role import render
from roles.sandbox import NVIDIAS

DIRECTORY = "/etc/paddock/gpu"
SCRIPT = f"{DIRECTORY}/nvidia-ready.sh"
UNIT = "nvidia-ready.service"

POWER_SCRIPT = f"{DIRECTORY}/power.sh"
LIMITS = f"{DIRECTORY}/power-limits"
POWER_UNIT = "paddock-gpu-power.service"

ACCOUNTS = "/etc/systemd/system/user@.service.d"

MEMORY_SCRIPT = f"{DIRECTORY}/memory.sh"
MODULE_OPTIONS = "/etc/modprobe.d/paddock-ttm.conf"
MODULES = ("ttm", "amdttm")
MEMORY_UNIT = "paddock-gpu-memory.service"

AMD = "1002"
PAGES_A_MIB = 256
LEAST_FOR_THE_SYSTEM_MIB = 2048


def plan(host: Host, settings: GpuSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    hardware = knowledge.hardware.get(host.name)
    servers = fleet.servers(host.name)
    units = tuple(server.unit for server in servers if server.scope == "system")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    if settings.nvidia:
        yield from _driver(settings.nvidia, units, hardware)
        yield from _power(settings.nvidia, units)
        if len(units) < len(servers):
            yield from _accounts(settings.nvidia)
    if settings.amd:
        yield from _memory(settings.amd, hardware)


def limits(settings: Nvidia) -> dict[str, int]:
    """Watts by card, `all` being every card."""
    asked = settings.power_limit_w
    return {} if asked is None else {"all": asked} if isinstance(asked, int) else asked


def _driver(settings: Nvidia, units: tuple[str, ...], hardware: Hardware | None) -> Iterator[Resource]:
    if hardware:
        for package in nvidia.packages(hardware, settings.driver):
            yield Package(package)
    script = File(SCRIPT, render("gpu/nvidia-ready.sh"), mode=0o755)
    unit = File(f"/etc/systemd/system/{UNIT}", render("gpu/nvidia-ready.service.j2", script=SCRIPT, units=units))
    yield script
    yield unit
    yield Service(UNIT, restarts=(unit, script))


def _power(settings: Nvidia, units: tuple[str, ...]) -> Iterator[Resource]:
    if not settings.persists:
        return
    wanted = File(LIMITS, "".join(f"{card} {watts}\n" for card, watts in limits(settings).items()))
    script = File(POWER_SCRIPT, render("gpu/power.sh.j2", limits=LIMITS), mode=0o755)
    unit = File(
        f"/etc/systemd/system/{POWER_UNIT}",
        render("gpu/paddock-gpu-power.service.j2", script=POWER_SCRIPT, ready=UNIT, units=units, nvidias=NVIDIAS),
    )
    yield wanted
    yield script
    yield unit
    yield Service(POWER_UNIT, restarts=(unit, script, wanted))


def _accounts(settings: Nvidia) -> Iterator[Resource]:
    """A unit of an account's own can name none of the system's, so its manager waits for the driver, as that of every account does. It
    does not need it: who wants to see why there is none has to be let in."""
    before = [UNIT, *([POWER_UNIT] if settings.persists else [])]
    yield Directory(ACCOUNTS)
    yield File(f"{ACCOUNTS}/40-paddock-gpu.conf", f"# Written by Paddock.\n[Unit]\nAfter={' '.join(before)}\n")


def _memory(settings: Amd, hardware: Hardware | None) -> Iterator[Resource]:
    """By an option of the module ttm, or amdttm where the driver is AMD's own package: amdgpu takes its limit over (amdgpu_ttm.c), and
    newer kernels warn of amdgpu's own `gttsize`."""
    if hardware:
        _check(settings, hardware)
    pages = settings.gtt_mib * PAGES_A_MIB
    lines = "".join(f"options {module} pages_limit={pages}\n" for module in MODULES)
    options = File(MODULE_OPTIONS, f"# Written by Paddock: {settings.gtt_mib} MiB.\n{lines}")
    script = File(MEMORY_SCRIPT, render("gpu/memory.sh.j2", options=MODULE_OPTIONS, pages=pages, gtt_mib=settings.gtt_mib), mode=0o755)
    unit = File(f"/etc/systemd/system/{MEMORY_UNIT}", render("gpu/paddock-gpu-memory.service.j2", script=MEMORY_SCRIPT))
    yield options
    yield script
    yield unit
    yield Service(MEMORY_UNIT, restarts=(unit, script, options))


def _check(settings: Amd, hardware: Hardware) -> None:
    """Raises PaddockError where there is no such graphics, or not as much memory."""
    where = "roles.gpu.amd"
    if not any(each.vendor == AMD for each in hardware.gpus) or hardware.architecture != nvidia.ARCHITECTURE:
        seen = ", ".join(each.name or f"{each.vendor}:{each.device}" for each in hardware.gpus)
        raise PaddockError(f"{where}: this host has no AMD graphics{f', but {seen}' if seen else ''}: leave `amd` out")
    most = hardware.memory_mib - LEAST_FOR_THE_SYSTEM_MIB
    if settings.gtt_mib > most:
        raise PaddockError(
            f"{where}.gtt_mib: {settings.gtt_mib} MiB are not to be had of {hardware.memory_mib}: {most} at most leave the system"
            f" {LEAST_FOR_THE_SYSTEM_MIB}"
        )

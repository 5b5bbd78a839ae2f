"""What a host's machine is. Read by facts/hardware.py, kept in the fleet's state, and all that a profile is chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class PciDevice:
    """A display or 3D controller. `vendor` and `device` are four hex digits each, `name` is the PCI database's, if that is there."""

    address: str
    """`0000:01:00.0`"""
    vendor: str
    device: str
    name: str = ""


@dataclass(frozen=True)
class NvidiaCard:
    """A card as its driver sees it."""

    uuid: str
    """`GPU-3b0c8f1e-…`: stays the card's, whatever the order of enumeration."""
    address: str
    """Of its PCI device, in the same form: `0000:01:00.0`"""
    name: str
    compute_capability: str
    """`6.1`"""
    memory_mib: int


@dataclass(frozen=True)
class VulkanDevice:
    """A device as its Vulkan driver sees it: `VulkanDevice("AMD Radeon Graphics (RADV GFX1151)", "radv", "integrated", "1.4.305")`."""

    name: str
    driver: str
    """`driverName` in lower case: `radv`, `amdvlk`, `nvidia`, `llvmpipe`, `v3dv mesa`"""
    kind: Literal["integrated", "discrete", "virtual", "cpu", "other"]
    api: str
    """The version of Vulkan that it offers."""


@dataclass(frozen=True)
class Hardware:
    """What a host's machine is. Text is empty, and a number 0, where the host could not say."""

    architecture: str
    """`x86_64`, `aarch64`"""
    cpu_model: str
    cpu_flags: frozenset[str]
    """/proc/cpuinfo's `flags`, or `Features` on ARM"""
    cores: int
    memory_mib: int
    """All of its memory."""
    distribution: str
    """`debian 13`, `ubuntu 24.04`"""
    identity: str = ""
    """A digest of what the release of llama.cpp depends on; the probe compares it, so that a changed machine is read anew."""
    cpu_parts: tuple[str, ...] = ()
    """On ARM the kinds of its cores, implementer and part: `0x41 0xd0b` is a Cortex-A76."""
    board: str = ""
    """Who made the machine and what it is, as its firmware says: `Raspberry Pi 5 Model B Rev 1.0`"""
    kernel: str = ""
    libc: str = ""
    """The version of the GNU C library: `2.41`"""
    disk_free_mib: int = 0
    """Where releases lie, /opt, when it was read."""
    compilers: Mapping[str, str] = field(default_factory=dict)
    """Which are installed: `{"gcc": "14.2.0", "nvcc": "12.4"}`"""
    cmake: str = ""
    docker: str = ""
    gpus: tuple[PciDevice, ...] = ()
    nvidia_driver: str = ""
    """`580.95.05`"""
    nvidia_cards: tuple[NvidiaCard, ...] = ()
    vulkan: tuple[VulkanDevice, ...] = ()


SUPPORTED = {"debian": 12, "ubuntu": 22.04, "raspbian": 12}
"""The distributions that hosts may have, and the oldest release of each. (Raspberry Pi OS of 64 bits calls itself debian.)"""


def unsupported(hardware: Hardware) -> str:
    """Why a host with this hardware cannot be one of a fleet; empty where it can."""
    name, _, release = hardware.distribution.partition(" ")
    known = ", ".join(f"{each} {oldest} or later" for each, oldest in SUPPORTED.items())
    if name not in SUPPORTED:
        return f"it runs {hardware.distribution or 'an unknown system'}; Paddock needs apt and systemd as on {known}"
    try:
        old = float(release) < SUPPORTED[name]
    except ValueError:
        old = False  # Debian's testing has no number yet
    return f"it runs {hardware.distribution}; Paddock supports {known}" if old else ""

"""What a host's machine is. Read by facts/hardware.py, kept in the fleet's state, and all that a profile is chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inventory.neighbours import Caddyfile, InputChain


@dataclass(frozen=True)
class PciDevice:
    """A display or 3D controller. `vendor` and `device` are four hex digits each, `name` is the PCI database's, if that is there."""

    address: str
    """`0000:01:00.0`"""
    vendor: str
    device: str
    name: str = ""
    memory_mib: int = 0
    """Of its own, where its driver says so to everybody (amdgpu): of a GPU in a processor that is what the firmware sets apart for it."""


OF_32_BITS = ("armhf", "armel", "i386", "32 bits")
"""Programs that a kernel of 64 bits may run too, as dpkg calls them; the last where there is no dpkg to ask."""

SHARING = ("5.3", "6.2", "7.2", "8.7", "11.0", "12.1")
"""Compute capabilities of GPUs that are a part of a processor: Jetson's, from Tegra X1 to Thor, and GB10's."""


@dataclass(frozen=True)
class NvidiaCard:
    """A card as its driver sees it."""

    uuid: str
    """`GPU-3b0c8f1e-…`: stays the card's, whatever the order of enumeration. Empty of a Jetson's, which has no other."""
    address: str
    """Of its PCI device, in the same form: `0000:01:00.0`; empty of one that is on no bus"""
    name: str
    compute_capability: str
    """`6.1`"""
    memory_mib: int
    """Of its own; 0 where its driver says none."""

    @property
    def shares_memory(self) -> bool:
        """Whether it uses the machine's memory, as a part of the processor."""
        return not self.memory_mib and self.compute_capability in SHARING


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
    """Of its programs: `x86_64`, `aarch64`; `armhf` where those are of 32 bits, whatever the kernel is"""
    cpu_model: str
    cpu_flags: frozenset[str]
    """/proc/cpuinfo's `flags`, or `Features` on ARM"""
    cores: int
    memory_mib: int
    """All of its memory."""
    distribution: str
    """`debian 13`, `ubuntu 24.04`; `debian forky` where the release has no number yet, as in testing and in sid"""
    identity: str = ""
    """A digest of what the release of llama.cpp depends on; the probe compares it, so that a changed machine is read anew."""
    cpu_parts: tuple[str, ...] = ()
    """On ARM the kinds of its cores, implementer and part: `0x41 0xd0b` is a Cortex-A76."""
    board: str = ""
    """Who made the machine and what it is, as its firmware says: `Raspberry Pi 5 Model B Rev 1.0`"""
    kernel: str = ""
    python: str = ""
    """The version of its /usr/bin/python3, `3.13`; empty where there is none yet. What it will be then: see `python_of`."""
    libc: str = ""
    """The version of the GNU C library: `2.41`"""
    disk_free_mib: int = 0
    """When it was read: the least of what was free where releases lie, below /opt, and where they are built, below /var/lib."""
    compilers: Mapping[str, str] = field(default_factory=dict)
    """Which of gcc, g++, clang, glslc and nvcc there are: `{"gcc": "14.2.0", "nvcc": "12.4.131"}`; of two nvcc it is /usr/local/cuda's."""
    cmake: str = ""
    docker: str = ""
    caddy: str = ""
    """Its version as dpkg has it, or else that which apt would install: `2.6.2-12`"""
    gpus: tuple[PciDevice, ...] = ()
    gfx: Mapping[str, str] = field(default_factory=dict)
    """The compute architectures of AMD's GPUs, those that the kernel lets compute, by PCI address: `{"0000:03:00.0": "gfx1100"}`"""
    nvidia_driver: str = ""
    """`580.95.05`"""
    nvidia_cards: tuple[NvidiaCard, ...] = ()
    vulkan: tuple[VulkanDevice, ...] = ()
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By network interface the addresses at which others reach it, IPv4 first: `{"eth0": ("192.0.2.10", "2001:db8::10")}`"""
    caddyfile: Caddyfile | None = None
    """What its Caddyfile says that is somebody else's; None where there is nothing of the kind."""
    input_chains: tuple[InputChain, ...] = ()
    """The chains of nftables that drop what none of their rules accepts, Paddock's own aside: it has none."""


# Capability by NVIDIA's PCI device, for cards that no driver speaks for: first and last of each range, the narrower ones first.
CAPABILITIES_BY_PCI = (
    (0x0FC0, 0x12BF, "3.5"),
    (0x1340, 0x13BF, "5.0"),
    (0x13C0, 0x143F, "5.2"),
    (0x15F0, 0x15FF, "6.0"),
    (0x1617, 0x17FF, "5.2"),
    (0x1B00, 0x1D7F, "6.1"),
    (0x1D80, 0x1DFF, "7.0"),
    (0x1E00, 0x1FFF, "7.5"),
    (0x2080, 0x20FF, "8.0"),
    (0x2180, 0x21FF, "7.5"),
    (0x2200, 0x22FF, "8.6"),
    (0x2300, 0x23FF, "9.0"),
    (0x2400, 0x25FF, "8.6"),
    (0x2600, 0x28FF, "8.9"),
    (0x2900, 0x29FF, "10.0"),
    (0x2E12, 0x2E12, "12.1"),
    (0x2B80, 0x2FFF, "12.0"),
    (0x3180, 0x31FF, "10.3"),
)


def shares_memory(hardware: Hardware) -> bool:
    """Whether its NVIDIA GPU uses the machine's memory, and there is no other."""
    return bool(hardware.nvidia_cards) and all(each.shares_memory for each in hardware.nvidia_cards)


def compute_capability(card: PciDevice) -> str:
    """What CUDA can do on an NVIDIA card, by its PCI device: `6.1`; empty of one that is not in the table, and of others' cards."""
    device = int(card.device, 16) if card.vendor == "10de" else 0
    return next((capability for first, last, capability in CAPABILITIES_BY_PCI if first <= device <= last), "")


PYTHONS = {
    "debian 12": "3.11",
    "debian 13": "3.13",
    "raspbian 12": "3.11",
    "raspbian 13": "3.13",
    "ubuntu 22.04": "3.10",
    "ubuntu 24.04": "3.12",
    "ubuntu 24.10": "3.12",
    "ubuntu 25.04": "3.13",
    "ubuntu 25.10": "3.13",
    "ubuntu 26.04": "3.14",
}
"""The python3 of each distribution (packages.debian.org, packages.ubuntu.com)."""


def python_of(hardware: Hardware) -> str:
    """The version of the Python that it has, or that its distribution installs: `3.13`; empty where nobody can tell."""
    return hardware.python or PYTHONS.get(hardware.distribution, "")


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
        old = False  # debian forky
    return f"it runs {hardware.distribution}; Paddock supports {known}" if old else ""

"""Vulkan: which devices llama.cpp can use, and what it takes to build for them."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.hardware import Hardware, PciDevice, VulkanDevice
from roles.llama_cpp.cpu import Chosen

OPTIONS: Chosen = {"GGML_VULKAN": ("ON", "the accelerator is a Vulkan device")}
BUILD_PACKAGES = ("libvulkan-dev", "glslc", "spirv-headers")
LOADER, MESA = "libvulkan1", "mesa-vulkan-drivers"

AMD, INTEL, NVIDIA = "1002", "8086", "10de"
ENVIRONMENT_OF_ANY = (("GGML_VK_VISIBLE_DEVICES", "0"),)
"""llama.cpp hides Vulkan devices that are no GPU unless they are named."""

VENDORS = {AMD: "AMD", INTEL: "Intel", NVIDIA: "NVIDIA"}

# Drivers for the same cards, the one that llama.cpp takes first (ggml-vulkan.cpp, driver_priorities).
RIVALS = (
    ("radv", "amd open-source driver", "amdvlk", "amd proprietary driver"),
    ("intel open-source mesa driver",),
    ("nvidia", "nvk"),
)
OF_NVIDIA = ("nvidia", "nvk")
UNUSABLE = {"v3dv mesa": "llama.cpp cannot work on the Raspberry Pi's V3D"}
OLDEST = (1, 2)

# Radeons since GCN 3 by PCI device: Mesa drives them all, and gives 16-bit storage. First and last of each range.
TRUSTED_AMD = (
    *((0x66A0, 0x66AF), (0x67C0, 0x67FF), (0x6860, 0x687F), (0x6900, 0x699F), (0x7300, 0x730F), (0x7310, 0x737F), (0x73A0, 0x75FF)),
    *((0x1114, 0x1114), (0x150E, 0x150E), (0x1586, 0x1586), (0x15BF, 0x15BF), (0x15C8, 0x15C8), (0x15D8, 0x15DD), (0x15E7, 0x15E7)),
    *((0x1636, 0x1638), (0x163F, 0x163F), (0x164C, 0x164D), (0x1681, 0x1681), (0x1900, 0x1901)),
)
# Intel's Arc cards: Alchemist and Battlemage.
TRUSTED_INTEL = ((0x5690, 0x56BF), (0x56C0, 0x56C1), (0xE202, 0xE21F))


def usable(hardware: Hardware) -> tuple[VulkanDevice, ...]:
    """The devices that llama.cpp takes unless told otherwise (ggml_vk_instance_init): all GPUs, each once, else the first virtual one."""
    fit = [each for each in hardware.vulkan if not unusable(each)]
    fit = [each for each in fit if each.kind != "virtual"] or fit[:1]
    drivers = {each.driver for each in fit}
    passed_over = {rival for rivals in RIVALS for rival in [each for each in rivals if each in drivers][1:]}
    return tuple(each for each in fit if each.driver not in passed_over)


def unusable(device: VulkanDevice) -> str:
    """Why llama.cpp cannot use it; empty where it can."""
    if device.kind in ("cpu", "other"):
        return "it is not a GPU" if device.kind == "other" else "it computes on the processor"
    if tuple(int(part) for part in device.api.split(".")[:2] if part.isdecimal()) < OLDEST:
        return f"it offers Vulkan {device.api}, and llama.cpp needs 1.2"
    return UNUSABLE.get(device.driver, "")


def trusted(hardware: Hardware) -> tuple[PciDevice, ...]:
    """The cards that Vulkan will drive once Mesa is there, known by their PCI ids: a fresh host has no Vulkan to ask."""
    return tuple(each for each in hardware.gpus if _within(each, AMD, TRUSTED_AMD) or _within(each, INTEL, TRUSTED_INTEL))


def present(hardware: Hardware) -> tuple[PciDevice, ...]:
    """The GPUs that Vulkan may drive, where nobody has asked it: of what it was asked about, it has listed what it can."""
    return () if hardware.vulkan else tuple(each for each in hardware.gpus if each.vendor in VENDORS)


def remarks(hardware: Hardware) -> Iterator[str]:
    """Why what is there is not used, for people."""
    for device in hardware.vulkan:
        if why := unusable(device):
            yield f"{device.name} is not used: {why}"
    if not hardware.vulkan:
        for card in hardware.gpus:
            if card.vendor in (AMD, INTEL):
                yield f"{title(card)} is not used: Vulkan does not list it; install {MESA} and vulkan-tools, or say `accelerator: vulkan`"


def title(card: PciDevice) -> str:
    """`GP104 [P104-100]`, `AMD 1002:1586`"""
    return card.name or f"{VENDORS.get(card.vendor, 'a card')} {card.vendor}:{card.device}"


def runtime_packages(hardware: Hardware) -> tuple[str, ...]:
    """What the programs need at run time. NVIDIA's Vulkan driver comes with NVIDIA's own."""
    only_nvidia = bool(usable(hardware)) and all(each.driver == "nvidia" for each in usable(hardware))
    return (LOADER,) if only_nvidia else (LOADER, MESA)


def _within(card: PciDevice, vendor: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return card.vendor == vendor and any(first <= int(card.device, 16) <= last for first, last in ranges)

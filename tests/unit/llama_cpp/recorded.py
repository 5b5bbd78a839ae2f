"""The machines of `machines/`, as hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice

FOLDER = Path(__file__).parent / "machines"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


PROCESSORS: dict[str, dict[str, str]] = read("processors.yml")
MACHINES = read("machines.yml")


def hardware(entry: dict[str, Any]) -> Hardware:
    architecture = entry.get("architecture", "x86_64")
    groups = entry.get("cards", [])
    drawn = [each for group in ([groups] if isinstance(groups, dict) else groups) for each in [group] * group.get("count", 1)]
    places = [f"0000:{index:02x}:00.0" for index in range(1, 20)]
    cards = [
        NvidiaCard(f"GPU-{index}", places[index], each["name"], each["capability"], each.get("memory_mib", 8192))
        for index, each in enumerate(drawn)
    ]
    pci = [PciDevice(places[index], "10de", each["device"]) for index, each in enumerate(drawn) if each["device"]]
    pci += [PciDevice(f"0000:00:{index:02x}.0", **each) for index, each in enumerate(entry.get("gpus", []), 1)]
    return Hardware(
        architecture=architecture,
        cpu_model=entry["processor"],
        cpu_flags=frozenset(PROCESSORS[architecture][entry["processor"]].split()),
        cores=entry.get("cores", 4),
        memory_mib=entry.get("memory_mib", 16000),
        distribution=entry.get("distribution", "debian 13"),
        cpu_parts=tuple(entry.get("parts", ())),
        libc=entry.get("libc", ""),
        disk_free_mib=entry.get("disk_free_mib", 0),
        compilers=entry.get("compilers", {}),
        gpus=tuple(pci),
        nvidia_driver=entry.get("nvidia_driver") or (drawn[0]["driver"] if drawn else ""),
        nvidia_cards=tuple(cards),
        vulkan=tuple(VulkanDevice(*each.rsplit("/", 3)) for each in entry.get("vulkan", ())),
    )

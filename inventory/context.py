"""What a plan may know beyond the inventory. A plan is a pure function of the fleet and of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TO_BE_ISSUED = "<to be issued>"


@dataclass(frozen=True)
class Hardware:
    """What a host's machine is. `cpu_flags` are /proc/cpuinfo's `flags`, `memory_mib` all of its memory."""

    architecture: str
    cpu_model: str
    cpu_flags: frozenset[str]
    cores: int
    memory_mib: int
    distribution: str
    """`debian 13`, `ubuntu 24.04`"""
    identity: str = ""
    """A digest of what the release of llama.cpp depends on; the probe compares it, so that a changed machine is read anew."""


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


@dataclass(frozen=True)
class Certificate:
    """A leaf, as PEM: `chain` is the leaf alone or with what lies between it and the CA. `key` is empty where nobody needs it."""

    chain: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class ModelDigest:
    sha256: str
    size: int


@dataclass(frozen=True)
class Context:
    """`hardware` by host, `servers` by site, `clients` by client (who left the inventory is not among them), `models` by model."""

    hardware: Mapping[str, Hardware] = field(default_factory=dict)
    ca: str = TO_BE_ISSUED
    servers: Mapping[str, Certificate] = field(default_factory=dict)
    clients: Mapping[str, Certificate] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    models: Mapping[str, ModelDigest] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """The digest of each local source tree, by its path."""

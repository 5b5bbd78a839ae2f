"""What a plan may know beyond the inventory. A plan is a pure function of the fleet and of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory.hardware import Hardware

TO_BE_ISSUED = "<to be issued>"


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

"""Python environments: programs of ours that need other people's packages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from resources.base import Attributes, Landing, OnDisk, Origin, Resource, of_kind
from resources.probe import Actual, ProbeAnswer
from resources.steps import Steps


class Wheel(NamedTuple):
    """A built package by its file: `Wheel("idna-3.20-py3-none-any.whl", "4f0c…", 65123)`; `size` in bytes, 0 where nobody knows it."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Venv(OnDisk):
    """A Python environment of these wheels and nothing else: programs are `path`/current/bin/…, its interpreter is the host's python3.

    The host needs Debian's python3-venv for it. Each environment lies in a directory of its own, `path`/DIGEST, and the one before is kept.
    """

    kind: ClassVar[str] = "venv"
    listed: ClassVar[bool] = True

    wheels: tuple[Wheel, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "wheels", tuple(Wheel(*each) for each in self.wheels))  # a plan that was read back has plain tuples

    @property
    def id(self) -> str:
        return f"venv:{self.path}"

    @property
    def current(self) -> str:
        """The link to the environment that is used."""
        return f"{self.path}/current"

    @property
    def digest(self) -> str:
        """Sixteen hex digits over the wheels."""
        lines = sorted(f"{each.sha256}  {each.name}\n" for each in self.wheels)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]

    @property
    def packages(self) -> tuple[str, ...]:
        """`paddock_gateway==0.1.0`, by the names of the wheels' files (packaging.python.org: binary distribution format)."""
        parts = (each.name.partition("-") for each in self.wheels)
        return tuple(f"{re.sub('[-_.]+', '_', name).lower()}=={rest.partition('-')[0]}" for name, _, rest in parts)

    @property
    def summary(self) -> str:
        """`paddock_gateway==0.1.0 with 20 packages`"""
        first, *others = self.packages
        return f"{first} with {len(others)} packages" if others else first

    @property
    def desired(self) -> Attributes:
        return {**self.identity, "python": "host's", "files": "intact"}

    @property
    def identity(self) -> Attributes:
        return {"wheels": self.digest}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"venvs": [each.path for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        if not (said := answer.table("venv").get(self.path)):
            return {}
        return dict(zip(("wheels", "python", "files"), said.split("\t", 2), strict=True))

    def lands_anew(self, actual: Actual) -> bool:
        return bool(actual.differing(self))

    def land(self, steps: Steps, landing: Landing) -> None:
        wheels = landing.payload[self.id]
        packed = (word for each in self.wheels for word in (steps.pack_file(wheels / each.sha256 / each.name), each.name, each.sha256))
        steps.add("put_venv", self.path, self.digest, *packed)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_venv", name)

    def state(self, found: Attributes) -> str:
        return found.get("wheels") or super().state(found)

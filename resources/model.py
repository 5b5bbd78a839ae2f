"""Model files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from resources.base import Attributes, Landing, OnDisk, Origin, Resource, of_kind
from resources.disk import stat_of
from resources.probe import ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.probe import Actual

PIECE = 32 << 20
"""Bytes of a model in one archive. What is no larger travels with the files, the rest in pieces (deploys/uploads.py)."""


@dataclass(frozen=True)
class ModelFile(OnDisk):
    """A GGUF, or a file that llama-server reads beside one. `origin` says where it comes from: `tiny`, `local PATH`, `url URL`, or `host`,
    where it lies already and stays the user's.

    A `size` of 0 is one that nobody knows. A file with `keep` outlives its place in the inventory. Files of one content are one file on the
    host, with several names.
    """

    kind: ClassVar[str] = "model"
    listed: ClassVar[bool] = True

    sha256: str
    size: int
    origin: str
    keep: bool = True

    @property
    def id(self) -> str:
        return f"model:{self.path}"

    @property
    def is_the_users(self) -> bool:
        return self.origin == "host"

    @property
    def desired(self) -> Attributes:
        whose = {} if self.is_the_users else {"owner": "root", "group": "root", "mode": "644"}
        return {"type": "file", **whose, **({"size": str(self.size)} if self.size else {}), "sha256": self.sha256}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"models": [each.path for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        return stat_of(self.path, answer)

    @property
    def noted(self) -> bool:
        return not self.is_the_users

    def noted_as(self, actual: Actual) -> Origin | None:
        return "data" if self.keep else super().noted_as(actual)

    def land(self, steps: Steps, landing: Landing) -> None:
        """All that a host does to have the file, but for what travels in pieces."""
        local = landing.payload.get(self.id)
        if local and is_large(local):
            return
        if local:
            how, staged = "staged", [steps.pack(local.read_bytes(), mode=0o644)]
        else:
            asked = landing.curl(self)
            how = "asked" if asked else "host" if self.is_the_users else "held"
            staged = [steps.pack(each.encode()) for each in asked]
        steps.add("put_model", self.path, self.sha256, self.size, how, *staged)

    @property
    def label(self) -> str:
        """What it is called while it is sent."""
        return self.path.rpartition("/")[2]

    @property
    def part(self) -> str:
        """Where it lies on the host until it is whole."""
        return f"{self.path}.part"

    def append(self, steps: Steps, done: int, piece: bytes) -> None:
        """A piece of it."""
        steps.add("model_append", self.path, done, steps.pack(piece))

    def complete(self, steps: Steps, local: Path | None) -> None:
        """It has come; without a `local` file it is one that came under another name."""
        steps.add("put_model", self.path, self.sha256, self.size, "appended" if local else "held")

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_model", name)


def is_large(local: Path) -> bool:
    """Whether a file of this machine travels in pieces."""
    return local.stat().st_size > PIECE


def room(models: Iterable[ModelFile]) -> Steps:
    """Checks that there is room for all models that are to come, each content once, without the tiny one."""
    steps = Steps()
    to_come = {each.sha256: each for each in models if each.size and each.origin not in ("host", "tiny")}
    if to_come:
        steps.add("model_room", *(word for each in to_come.values() for word in (each.path, each.size, each.sha256)))
    return steps

"""Lines in files that belong to somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from resources.base import Attributes, Landing, OnDisk, Origin, Resource, of_kind
from resources.probe import ProbeAnswer
from resources.steps import Steps


@dataclass(frozen=True)
class Line(OnDisk):
    """One line in a file that belongs to somebody else. A file that is still as its package left it counts as empty."""

    kind: ClassVar[str] = "line"
    reverts: ClassVar[bool] = True

    text: str

    @property
    def id(self) -> str:
        return f"line:{self.path}: {self.text}"

    @property
    def desired(self) -> Attributes:
        return {"line": self.text}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"lines": [f"{each.path}\t{each.text}" for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        return {"line": self.text} if self.path in answer.lines("line") else {}

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_line", landing.origin(self), self.path, self.text)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_line", *name.split(": ", 1))

"""Packages of the distribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from resources.base import Attributes, Landing, Origin, Phase, Resource, of_kind
from resources.probe import ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.disk import File
    from resources.probe import Actual


@dataclass(frozen=True)
class Package(Resource):
    """A package of the distribution, or one file of a newer release of it: `deb` is its sha256, `version` its exact version. `gate` is a
    shell command that must succeed before another version of it is installed: it gets a directory with the files of that, and one with the
    files that are to land.

    One that is not `needed` stays where it is, and is not installed where it is missing: a compiler, where there is nothing to compile.
    """

    kind: ClassVar[str] = "package"
    phase: ClassVar[Phase] = "prepare"

    name: str
    version: str = ""
    deb: str = ""
    needed: bool = field(default=True, compare=False)
    gate: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        return f"package:{self.name}"

    @property
    def desired(self) -> Attributes:
        if not self.needed:
            return {}
        return {"state": "installed", **({"version": self.version} if self.version else {})}

    @property
    def noted(self) -> bool:
        """Not where it is only to be another version of the distribution's."""
        return bool(self.deb or not self.version)

    def noted_as(self, actual: Actual) -> Origin | None:
        return super().noted_as(actual) if self.needed or self.id in actual.resources else actual.manifest.get(self.id)

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"packages": [each.name for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        _, status, version = ["", *answer.table("package").get(self.name, "\t").split("\t")]
        return {"state": "installed", "version": version} if status.strip() == "ii" else {}

    def land(self, steps: Steps, landing: Landing) -> None:
        """The file of a newer release, or a version of the distribution's. Where any version does, pyinfra's own operation installs it
        (deploys/packages.py)."""
        steps.add("put_package", self.name, *self._source(steps, landing))

    def try_out(self, steps: Steps, landing: Landing, files: Iterable[File]) -> None:
        """Its gate, with the files that are to land; nothing is installed."""
        staged = (word for each in files for word in (steps.pack(each.data, mode=each.mode), each.group, each.path))
        steps.add("package_try", self.name, *self._source(steps, landing), self.gate, *staged)

    def _source(self, steps: Steps, landing: Landing) -> tuple[str, str]:
        """What its file is called among what travels, and its version; one of the two is empty."""
        return (steps.pack(landing.payload[self.id].read_bytes()), "") if self.deb else ("", self.version)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        """They go together, since they need each other: see `after_leaving`."""

    @classmethod
    def after_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        if names := [name.removeprefix("package:") for name in gone if name.startswith("package:")]:
            steps.add("gone_package", *names)

"""Users that services run as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from resources.base import Attributes, Landing, Origin, Phase, Resource, of_kind
from resources.probe import ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.probe import Actual

SHELL = "/usr/sbin/nologin"


@dataclass(frozen=True)
class User(Resource):
    """A system user without a login shell, with a group of its own name, and in no other than `groups`; unless `only` is false.

    One that is not `needed` stays where it is, and is not made where it is missing: who compiles, where there is nothing to compile.
    """

    kind: ClassVar[str] = "user"
    phase: ClassVar[Phase] = "prepare"

    name: str
    home: str
    groups: tuple[str, ...] = ()
    only: bool = True
    needed: bool = field(default=True, compare=False)

    @property
    def id(self) -> str:
        return f"user:{self.name}"

    @property
    def desired(self) -> Attributes:
        if not self.needed:
            return {}
        return {"home": self.home, "shell": SHELL, "groups": " ".join(sorted(self.all_groups))}

    @property
    def all_groups(self) -> frozenset[str]:
        return frozenset({self.name, *self.groups})

    def noted_as(self, actual: Actual) -> Origin | None:
        return super().noted_as(actual) if self.needed or self.id in actual.resources else actual.manifest.get(self.id)

    def is_paddocks(self, actual: Actual) -> bool:
        return self.name.startswith("paddock-")

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"users": [each.name for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        line = next((line for line in answer.lines("passwd") if line.split(":")[0] == self.name), "")
        if not line:
            return {}
        *_, home, shell = line.split(":")
        groups = set(answer.table("groups").get(self.name, "").split())
        return {"home": home, "shell": shell, "groups": " ".join(sorted(groups if self.only else groups & self.all_groups))}

    def land(self, steps: Steps, landing: Landing) -> None:
        """What pyinfra's own operation leaves alone where it is given no groups (deploys/users.py): those that the user is in already."""
        if not self.groups and self.id in landing.actual.resources:
            steps.add("put_user", self.name)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        """They go after all that ran as them: see `after_leaving`."""

    @classmethod
    def after_leaving(cls, steps: Steps, gone: Mapping[str, Origin]) -> None:
        for name in gone:
            if name.startswith("user:"):
                steps.add("gone_user", name.removeprefix("user:"))

"""Parameters of the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from resources.base import Attributes, Landing, Origin, Resource, ResourceError, of_kind
from resources.probe import ProbeAnswer
from resources.steps import Steps


@dataclass(frozen=True)
class Sysctl(Resource):
    """A parameter of the running kernel, such as `net.ipv4.tcp_keepalive_time`. Its value from before Paddock comes back when it leaves."""

    kind: ClassVar[str] = "sysctl"
    reverts: ClassVar[bool] = True
    listed: ClassVar[bool] = True

    key: str
    value: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", self.key):
            raise ResourceError(f"{self.key!r} is no parameter of the kernel")

    @property
    def id(self) -> str:
        return f"sysctl:{self.key}"

    @property
    def desired(self) -> Attributes:
        return {"value": self.value}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"sysctls": [each.key for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        value = answer.table("sysctl").get(self.key)
        return {} if value is None else {"value": value}

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_sysctl", self.key, self.value)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_sysctl", name)

    def state(self, found: Attributes) -> str:
        return found.get("value") or super().state(found)

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        yield "value", f"sysctl -n {self.key}", self.value

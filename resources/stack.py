"""Compose projects, the images that their containers are made of, and the volumes that outlive them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from resources.base import Action, Attributes, Landing, Origin, Phase, Resource, ResourceError, of_kind
from resources.disk import UNOPENED
from resources.port import Port
from resources.probe import ProbeAnswer
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.drift import Change
    from resources.probe import Actual

NAME = r"[a-z0-9][a-z0-9_-]*"
"""What Compose takes for the name of a project, a service or a volume."""

IMAGE = r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}"
"""Where an image is had from, with the digest that it is to have there: `docker.io/library/postgres:17@sha256:…`."""

PREFIX = "paddock-"
"""Of the names of projects: nobody else's is called so by chance."""

ENGINE = "docker.service"
"""The unit that listens where containers publish."""

DECLARED = "paddock.declared"
"""The label with the digest of all that a container is made of and reads."""


class Container(NamedTuple):
    """A container of a stack by the name that Compose has for its service. `declared` is the digest of all that it is made of and reads,
    UNOPENED where that hangs on what nobody here can open; `health` whether it says how it is."""

    name: str
    image: str
    declared: str
    health: bool = False


@dataclass(frozen=True)
class Image(Resource):
    """An image of containers, with the digest that its registry has it by. It stays while a container uses it. One that is `brought` comes
    from the control machine, and has a name of Paddock's on the host: what is loaded from a file has no digest of a registry there."""

    kind: ClassVar[str] = "image"
    phase: ClassVar[Phase] = "files"

    reference: str
    brought: bool = False

    @property
    def id(self) -> str:
        return f"image:{self.name}"

    @property
    def name(self) -> str:
        """How the host knows it: `docker.io/library/postgres:17@sha256:…`; of one that is brought
        `docker.io/library/postgres:paddock-0123456789ab`, by the first digits of the digest."""
        if not self.brought:
            return self.reference
        place, _, digest = self.reference.partition("@sha256:")
        above, slash, last = place.rpartition("/")
        return f"{above}{slash}{last.partition(':')[0]}:paddock-{digest[:12]}"

    @property
    def label(self) -> str:
        """What it is called while it is sent."""
        return self.name

    @property
    def part(self) -> str:
        """Where its file lies on the host until it is whole."""
        return f"/var/lib/paddock/images/{self.reference.partition('@sha256:')[2]}.tar"

    def append(self, steps: Steps, done: int, piece: bytes) -> None:
        """A piece of its file."""
        steps.add("image_append", self.name, self.part, done, steps.pack(piece))

    def complete(self, steps: Steps, local: Path | None) -> None:
        """Its file has come."""
        assert local
        with local.open("rb") as file:
            steps.add("put_brought_image", self.name, self.part, hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def desired(self) -> Attributes:
        return {"state": "there"}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"images": [each.name for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        return {"state": "there"} if self.name in answer.table("image") else {}

    def land(self, steps: Steps, landing: Landing) -> None:
        """From its registry; what is brought comes in pieces."""
        if self.id not in landing.payload:
            steps.add("put_image", self.name, self.reference)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_image", name)

    @classmethod
    def before_forgetting(cls, steps: Steps, changes: Sequence[Change]) -> None:
        """What no plan names any more, once no container uses it any more either."""
        for change in changes:
            if change.resource is None and change.id.startswith("image:"):
                steps.add("gone_image", change.id.partition(":")[2])

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        yield "image", f"docker image inspect --format there {self.name} 2>/dev/null || true", "there"


@dataclass(frozen=True)
class Volume(Resource):
    """A named volume of a stack: data, which stay until somebody says that they go too. A label of it says whose it is."""

    kind: ClassVar[str] = "volume"
    phase: ClassVar[Phase] = "files"

    name: str
    stack: str = ""

    @property
    def id(self) -> str:
        return f"volume:{self.name}"

    @property
    def desired(self) -> Attributes:
        return {"state": "there"}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"volumes": [each.name for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        owner = answer.table("volume").get(self.name)
        return {} if owner is None else {"state": "there" if owner == self.stack else "somebody else's"}

    def noted_as(self, actual: Actual) -> Origin | None:
        return "data"

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_volume", self.name, self.stack)

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_volume", name)

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        yield "volume", f"docker volume inspect --format there {self.name} 2>/dev/null || true", "there"


@dataclass(frozen=True)
class Stack(Resource):
    """A Compose project: `directory` holds its compose.yml and what its containers read, `reads` are these files.

    A container whose label says another digest than its `declared` is made anew, the others go on. `ports` are what it publishes.
    """

    kind: ClassVar[str] = "stack"
    phase: ClassVar[Phase] = "services"
    listed: ClassVar[bool] = True

    name: str
    directory: str
    containers: tuple[Container, ...] = ()
    reads: tuple[Resource, ...] = ()
    ports: tuple[Port, ...] = ()
    ready_timeout_s: int = 120

    def __post_init__(self) -> None:
        object.__setattr__(self, "containers", tuple(Container(*each) for each in self.containers))  # of a plan that was read back
        for each in self.containers:
            if not re.fullmatch(NAME, each.name):
                raise ResourceError(f"{self.id}: {each.name!r} cannot be a container's name")

    @property
    def id(self) -> str:
        return f"stack:{self.name}"

    @property
    def project(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def desired(self) -> Attributes:
        each_of = {key: value for each in self.containers for key, value in _desired(each).items()}
        return {"others": "none", **each_of}

    # What the probe asks, and how its answer reads

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"stacks": [each.project for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        lines = [line.split("\t") for line in answer.lines("container")]
        mine = {each[1]: each[2:] for each in lines if len(each) == 7 and each[0] == self.project}
        if not mine:
            return {}
        found, known = {}, {each.name: each for each in self.containers}
        for name, (declared, state, health, restarts, _) in mine.items():
            if name in known:
                found[name] = ", ".join(filter(None, (state, health)))
                found[f"{name} restarts"] = "none" if restarts == "0" else restarts
                if declared:
                    found[f"{name} made of"] = declared
        return {"others": ", ".join(sorted(mine.keys() - known.keys())) or "none", **found}

    # What is to happen

    def action(self, actual: Actual, wrong: frozenset[str]) -> Action | None:
        if self.id not in wrong:
            return None
        if self.id not in actual.resources:
            return "put"
        return "restart" if any(name.endswith(" made of") for name in actual.differing(self)) else "mend"

    # How it lands, and how it leaves

    @classmethod
    def before_landing(cls, steps: Steps, wrong: frozenset[str], landing: Landing) -> None:
        """Keeps the files of a stack that runs, until it runs with those that land."""
        for each in of_kind(landing.resources, cls):
            if wrong & {one.id for one in each.reads}:
                steps.add("stack_keep", each.project, each.directory)

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_stack", self.name, self.directory, self.ready_timeout_s, *(each.name for each in self.containers))

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_stack", name)

    # How it is shown

    def state(self, found: Attributes) -> str:
        running = [each for each in self.containers if found.get(each.name, "").startswith("running")]
        if found and all(found.get(each.name, "").startswith("exited") for each in self.containers):
            return "stopped"
        return f"{len(running)} of {len(self.containers)} running" if found else super().state(found)

    def advice(self, differing: Mapping[str, object]) -> str:
        if any(name.endswith(" restarts") for name in differing):
            return f"`docker compose -p {self.project} logs` on the host says why it ended; `paddock restart` counts anew"
        return ""

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        labels = f'{{{{.Label "com.docker.compose.service"}}}} {{{{.Label "{DECLARED}"}}}} {{{{.State}}}}'
        shown = f"docker ps --all --filter label=com.docker.compose.project={self.project} --format '{labels}' | LC_ALL=C sort"
        known = [each for each in self.containers if each.declared != UNOPENED]
        if len(known) == len(self.containers):
            yield "containers", shown, "\n".join(sorted(f"{each.name} {each.declared} running" for each in self.containers))

    # What comes along

    def implied(self) -> Iterator[Resource]:
        yield from self.ports


def _desired(container: Container) -> Attributes:
    state = "running, healthy" if container.health else "running"
    made_of = {} if container.declared == UNOPENED else {f"{container.name} made of": container.declared}
    return {container.name: state, f"{container.name} restarts": "none", **made_of}

"""Images of containers that their host builds itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from resources.base import Attributes, Landing, Origin, Phase, Resource, of_kind
from resources.probe import ProbeAnswer
from resources.release import Releases
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.drift import Change
    from resources.probe import Actual


@dataclass(frozen=True)
class LocalImage(Resource):
    """An image that its host builds, of the Dockerfile at the path `dockerfile` and of the directory `context`, which that copies from.

    It is made on the image `base`, which the host fetches where it builds, and does not keep: one that is built already needs it no more.
    `name` is without a tag (`paddock/llama.cpp`), `inputs` the digest of all that it is made of: its label `paddock.inputs`. Images with
    other tags stay for as long as the directories that they are made of, each named by its label `paddock.context`.
    """

    kind: ClassVar[str] = "localimage"
    phase: ClassVar[Phase] = "services"  # what it is made of lands with the files
    old: ClassVar[frozenset[str]] = frozenset({"spare"})

    name: str
    tag: str
    dockerfile: str
    context: str
    inputs: str
    base: str = ""

    @property
    def id(self) -> str:
        return f"localimage:{self.name}"

    @property
    def reference(self) -> str:
        """`paddock/llama.cpp:0.3.36-1f0c8a2b3c4d-5e6f7a8b`"""
        return f"{self.name}:{self.tag}"

    @property
    def desired(self) -> Attributes:
        return {"made of": self.inputs, "spare": ""}

    @classmethod
    def asks(cls, resources: Sequence[Resource]) -> Mapping[str, Iterable[str]]:
        return {"local_images": [each.name for each in of_kind(resources, cls)]}

    def found(self, answer: ProbeAnswer) -> Attributes:
        lines = (line.split("\t") for line in answer.lines("localimage"))
        mine = {each[1]: each[2:] for each in lines if len(each) == 4 and each[0] == self.name}
        if not mine:
            return {}
        made_of = {"made of": mine[self.tag][0]} if self.tag in mine else {}
        return {**made_of, "spare": " ".join(sorted(tag for tag, (_, context) in mine.items() if context == "gone"))}

    def is_paddocks(self, actual: Actual) -> bool:
        return True  # by its labels, or it would not have been found

    def land(self, steps: Steps, landing: Landing) -> None:
        steps.add("put_localimage", self.name, self.tag, self.inputs, self.dockerfile, self.context, self.base)

    @classmethod
    def at_end(cls, steps: Steps, changes: Sequence[Change]) -> None:
        """The images of releases that are gone go too."""
        if any(isinstance(change.resource, cls | Releases) for change in changes):
            steps.add("localimages_spare")

    @classmethod
    def before_forgetting(cls, steps: Steps, changes: Sequence[Change]) -> None:
        """What no plan names any more, now that nothing is to run of it."""
        for change in changes:
            if change.resource is None and change.id.startswith("localimage:"):
                steps.add("localimage_unused", change.id.partition(":")[2])

    @classmethod
    def leave(cls, steps: Steps, name: str, origin: Origin) -> None:
        steps.add("gone_localimage", name)

    def second_look(self) -> Iterable[tuple[str, str, str]]:
        label = '{{index .Config.Labels "paddock.inputs"}}'
        yield "made of", f"docker image inspect --format '{label}' {self.reference} 2>/dev/null || true", self.inputs

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from roles.image import ContainerMemory, ImageReference
from roles.role import Endpoint, Matches, RoleSettings, Settings
from roles.server import Card, ImageServer

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

NAME = "localai"

ModelName = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "is not a name for a model: letters, digits, and . _ -")]
Repository = Annotated[
    str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", "is no repository of Hugging Face, such as segmind/SSD-1B")
]
Word = Annotated[str, Matches(r"[A-Za-z][A-Za-z0-9_]{0,99}", "is not a name of letters, digits and _")]
Size = Annotated[str, Matches(r"[1-9][0-9]{1,3}x[1-9][0-9]{1,3}", "is not a size of an image, such as 512x512")]
BackEnd = Annotated[str, Matches(r"[a-z0-9][a-z0-9-]*", "is not a back end of LocalAI, such as cuda12-diffusers")]


class ImageModel(Settings):
    """A model that makes images with the back end `diffusers`."""

    model: Repository
    """The repository on Hugging Face: `segmind/SSD-1B`. LocalAI fetches it at the first request."""

    pipeline: Word = "StableDiffusionXLPipeline"
    """The pipeline of diffusers."""

    scheduler: Word = "k_dpmpp_2m"
    """The scheduler."""

    steps: Annotated[int, Field(ge=1, le=150)] = 20
    """Steps an image, where a request says none."""

    size: Size = "512x512"
    """The size of an image in pixels, where a request says none."""


class LocalaiSettings(RoleSettings):
    """LocalAI as an image server on one card, in a container. A gateway whose `upstream` names the host offers its models at
    `/v1/images/generations`. docs/localai.md is its manual."""

    image: ImageReference
    """`docker.io/localai/localai:latest-gpu-nvidia-cuda-12@sha256:…`"""

    listen: Endpoint = "127.0.0.1:5100"
    """Where it is published. It speaks plain HTTP, and asks for a key, the secret `localai-key.HOST`."""

    card: Card
    """The card that it is given: its number, its PCI address or its UUID. It gets no other."""

    models: Annotated[dict[ModelName, ImageModel], Field(min_length=1)]
    """Its models, by the name that users ask for."""

    backend: BackEnd = "cuda12-diffusers"
    """LocalAI's back end. It is fetched from LocalAI's gallery at the first start, 7 GB."""

    memory: ContainerMemory = "4096m"
    """The memory limit."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield key_name(host), f"key of the image server of {host}"

    def image_servers(self, host: str) -> Iterator[ImageServer]:
        yield ImageServer(host, NAME, self.listen, {name: each.size for name, each in self.models.items()}, key_name(host))

    def public_models(self) -> Iterator[str]:
        yield from self.models

    def details(self) -> Iterable[str]:
        return self.models

    def rehearsed(self, here: Rehearsal) -> tuple[None, list[str]]:
        return None, [f"{here.host}: the role localai is left out: a lab has neither its image nor a card."]

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"docker": f"localai runs in a container: add the role docker to {host}"}


def key_name(host: str) -> str:
    """The name of the secret that it asks for."""
    return f"localai-key.{host}"

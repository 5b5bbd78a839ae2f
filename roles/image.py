"""How an inventory names an image, and how much memory a container may have."""

from __future__ import annotations

from typing import Annotated

from resources.stack import IMAGE
from roles.role import Matches

ImageReference = Annotated[
    str,
    Matches(
        IMAGE,
        "is no image with its digest, such as docker.io/library/postgres:17@sha256:…: `paddock artifacts pull --lock` finds it",
    ),
]
"""Where an image is had from, with the digest that it has there."""

ContainerMemory = Annotated[str, Matches(r"[1-9][0-9]{0,8}[kmg]", "is not a memory limit of a container, such as 2048m")]

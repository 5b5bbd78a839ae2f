from __future__ import annotations

from typing import Annotated

from resources.stack import IMAGE
from roles.role import Endpoint, Matches, Name, RoleSettings, Settings

ImageReference = Annotated[str, Matches(IMAGE, "is no image with its digest")]


class Crate(Settings):
    """A container that answers with a text."""

    image: ImageReference
    says: str = "hello"
    listen: Endpoint | None = None
    callers: tuple[str, ...] | None = None
    command: tuple[str, ...] = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")


class CrateSettings(RoleSettings):
    """A stack of containers."""

    crates: dict[Name, Crate]
    """By name."""

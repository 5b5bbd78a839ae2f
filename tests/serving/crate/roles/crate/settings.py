from __future__ import annotations

from roles.image import ImageReference
from roles.role import Endpoint, Name, RoleSettings, Settings


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

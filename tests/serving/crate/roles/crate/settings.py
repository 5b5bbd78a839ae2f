from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from roles.image import ImageReference
from roles.role import Endpoint, Name, RoleSettings, Settings


class Crate(Settings):
    """A container that answers with a text."""

    image: ImageReference
    says: str = "hello"
    listen: Endpoint | None = None
    callers: tuple[str, ...] | None = None
    command: tuple[str, ...] = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")
    keys: dict[str, Literal["file", "variable"]] = {}
    """Secrets that it gets, and how: by name, which several crates may have in common."""


class CrateSettings(RoleSettings):
    """A stack of containers."""

    crates: dict[Name, Crate]
    """By name."""

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        for name in dict.fromkeys(key for crate in self.crates.values() for key in crate.keys):
            yield f"crate-{name}", f"a key of {host}'s crates"

"""A secret that somebody else has made, as settings name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from roles.role import Matches, Settings


class SecretValue(Settings):
    """A secret of the fleet, by its name."""

    secret: Annotated[
        str, Matches(r"[a-z0-9][a-z0-9._-]*", "is no name of a secret: lower-case letters, digits, dots, hyphens, underscores")
    ]
    """As `paddock secrets set NAME` has stored it."""

    def missing(self, secrets: Mapping[str, str]) -> str:
        """What to do where nobody has set it yet; empty where it is there."""
        if self.secret in secrets:
            return ""
        return f"there is no secret {self.secret} yet: `paddock secrets set {self.secret}`, of a lab with --lab"

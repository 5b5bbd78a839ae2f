from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from roles.role import Matches, RoleSettings

# It stands in units and in presets, none of which is asked to quote it.
PlainDirectory = Annotated[
    str, Matches(r"(?!.*/\.\.?(/|$))(/[A-Za-z0-9._-]+)+", "is no absolute path of letters, digits, dots, hyphens and underscores")
]

SHARED = re.compile(r"/[^/]+|/(home|var|usr|run|etc)/[^/]+|/var/lib/[^/]+")
"""Directories that are the system's, or somebody's home: Paddock would make one its own."""


def _own(directory: str) -> str:
    if SHARED.fullmatch(directory):
        raise ValueError(f"{directory} is not for models alone: name a directory in it, such as {directory}/models")
    return directory


class ModelsSettings(RoleSettings):
    """The files of every model that the host's servers name."""

    directory: Annotated[PlainDirectory, AfterValidator(_own)] = "/var/lib/paddock/models"
    """Where the files lie on the host."""

    peers: bool = False
    """Whether other hosts of the fleet may take files from here, while `paddock up` runs, instead of from where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

from roles.role import SHARED_DIRECTORY, Matches, RoleSettings
from roles.server import MODEL_DIRECTORY

# It stands in units and in presets, none of which is asked to quote it.
PlainDirectory = Annotated[
    str, Matches(r"(?!.*/\.\.?(/|$))(/[A-Za-z0-9._-]+)+", "is not an absolute path of letters, digits, dots, hyphens and underscores")
]


EVERYWHERE = ("/home", "/media", "/mnt", "/opt", "/srv", "/usr/local", "/var", "/var/lib")
"""Directories that every host has. Others are on disks of the owner's, which a lab host does not have."""


def _own(directory: str) -> str:
    if SHARED_DIRECTORY.fullmatch(directory):
        raise ValueError(f"{directory} is a shared directory: name a subdirectory for models, such as {directory}/models")
    return directory


class ModelsSettings(RoleSettings):
    """The files of all models that the host's servers use."""

    rolls_back = True

    directory: Annotated[PlainDirectory, AfterValidator(_own)] = MODEL_DIRECTORY
    """The directory of the files on the host."""

    peers: bool = False
    """Offer the files to other hosts of the fleet while `paddock up` runs, so that they need not download them from the source."""

    def rehearsed(self, here: Rehearsal) -> tuple[ModelsSettings, list[str]]:
        moved, told = here.moved(self)
        if self.directory == MODEL_DIRECTORY or self.directory.rpartition("/")[0] in EVERYWHERE:
            return moved, told
        told.append(f"{here.host}: models.directory is {MODEL_DIRECTORY} in place of {self.directory}: a lab host has no disk there.")
        return moved.model_copy(update={"directory": MODEL_DIRECTORY}), told

    def gives_models(self) -> bool:
        return self.peers

    def model_directory(self) -> str:
        return self.directory

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"llama_cpp": f"models needs llama.cpp on the same host: add the role llama_cpp to {host}"}

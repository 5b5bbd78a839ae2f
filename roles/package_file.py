"""A package file that is newer than the distribution's."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from roles.role import LocalFile, Matches, Settings, Sha256, Url


class PackageFile(Settings):
    """One package file of a role, from exactly one of `url` and `path`."""

    url: Url | None = None
    """The URL from which the control machine fetches it."""

    path: LocalFile | None = None
    """Instead of `url`: a file on the control machine."""

    sha256: Sha256
    """The digest of the file."""

    version: Annotated[str, Matches(r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*", "is no version of a package, such as 2.11.4-1")]
    """The exact version, as dpkg shows it: `2.11.4-1`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> PackageFile:
        if bool(self.url) == bool(self.path):
            raise ValueError("needs exactly one of url and path")
        return self

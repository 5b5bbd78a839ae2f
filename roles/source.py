"""Where llama.cpp's source comes from: what a host builds, and what decides which options its llama-server takes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import model_validator

from roles.role import LINE_ENDS, LocalPath, Matches, Settings, Sha256, Url

Commit = Annotated[str, Matches(r"[0-9a-f]{40}", "is not a full commit hash: 40 lower-case hex digits")]
Sdist = Annotated[
    str, Matches(r"llama[-_]cpp[-_]python==[0-9][0-9A-Za-z.]*", "is not a release of llama-cpp-python, such as llama-cpp-python==0.3.36")
]
GitUrl = Annotated[
    str, Matches(rf"(https?|ssh|git|file)://[^\s{LINE_ENDS}]+|[\w.-]+@[\w.-]+:[^\s{LINE_ENDS}]+", "is not the URL of a Git repository")
]


class Source(Settings):
    """The source of llama.cpp: exactly one of `sdist`, `archive`, `git` and `path`. The control machine fetches it and sends it to the
    builder."""

    sdist: Sdist | None = None
    """A source distribution of llama-cpp-python, which contains all of llama.cpp. It works in networks with only a PyPI mirror."""

    archive: Url | None = None
    """The URL of a tar archive. Requires `sha256`."""

    git: GitUrl | None = None
    """The URL of a Git repository. Requires `commit`."""

    path: LocalPath | None = None
    """A source tree on the control machine."""

    sha256: Sha256 | None = None
    """The digest of the archive or the source distribution."""

    commit: Commit | None = None
    """The full commit to build."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in ("sdist", "archive", "git", "path") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of sdist, archive, git and path, this has {' and '.join(given) or 'none'}")
        if self.archive and not self.sha256:
            raise ValueError("an archive needs sha256, the digest of the file")
        if self.git and not self.commit:
            raise ValueError("a git source needs the full commit (40 hex digits), because a branch or a tag can move")
        return self

    @property
    def identity(self) -> str:
        """A text that identifies the source: `sdist llama-cpp-python==0.3.36`."""
        if self.git:
            return f"git {self.commit}"
        if self.archive:
            return f"archive {self.sha256}"
        return f"sdist {self.sdist}" if self.sdist else f"path {self.path}"

    @property
    def label(self) -> str:
        """A short name for a directory: `0.3.36`, `0c1e570`."""
        name = (self.commit or self.sha256 or "")[:7] if not self.sdist else self.sdist.partition("==")[2]
        return name or re.sub(r"[^A-Za-z0-9.]+", "-", (self.path or "").rstrip("/").rpartition("/")[2]).strip("-") or "tree"


DEFAULT = Source(sdist="llama-cpp-python==0.3.36")
"""What is built unless an inventory says otherwise."""

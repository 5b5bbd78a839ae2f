"""Where llama.cpp's source comes from: what a host builds, and what decides which options its llama-server takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import model_validator

from roles.role import LINE_ENDS, Here, LocalPath, Matches, Settings, Sha256, Url

PINNED = {"llama-cpp-python==0.3.36": "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"}
"""The sha256 of the source distributions that Paddock knows itself: of what it builds by default."""

Commit = Annotated[str, Matches(r"[0-9a-f]{40}", "is not a full commit hash: 40 lower-case hex digits")]
Sdist = Annotated[
    str, Matches(r"llama[-_]cpp[-_]python==[0-9][0-9A-Za-z.]*", "is not a release of llama-cpp-python, such as llama-cpp-python==0.3.36")
]
DEBIAN_VERSION = r"([1-9]:)?[0-9]{1,4}(\.[0-9]{1,6}){2}([+~][0-9A-Za-z.+~]*)?-[0-9A-Za-z.+~]+"
ToolsVersion = Annotated[
    str,
    Matches(
        DEBIAN_VERSION,
        "is not the whole version of a package, such as 1:0.7.0+dfsg-2: `apt-cache policy llama.cpp-tools` on the host shows it",
    ),
]
GgmlVersion = Annotated[
    str,
    Matches(DEBIAN_VERSION, "is not the whole version of a package, such as 0.27.0-1: `apt-cache policy libggml0` on the host shows it"),
]
GitUrl = Annotated[
    str,
    Matches(
        rf"(https?|ssh|git|file)://[^\s{LINE_ENDS}]+|[\w.-]+@[\w.-]+:[^\s{LINE_ENDS}]+", "is not the URL of a Git repository", unbroken=True
    ),
]

SourceTree = Annotated[LocalPath, Here(holds=("CMakeLists.txt", "include/llama.h"))]


KINDS = ("sdist", "archive", "git", "path", "packages")

OLDEST_PACKAGES = (0, 5, 0)
"""The first packaged llama.cpp whose router may unload one model for another: see docs/servers.md."""


class Source(Settings):
    """The source of llama.cpp: exactly one of `sdist`, `archive`, `git`, `path` and `packages`. The control machine fetches what is
    compiled and sends it to the builder. A host downloads packages itself."""

    sdist: Sdist | None = None
    """A source distribution of llama-cpp-python, which contains all of llama.cpp. It works in networks with only a PyPI mirror. Requires a
    digest: `sha256`, or the lock beside the inventory, which `paddock artifacts pull --lock` writes."""

    archive: Url | None = None
    """The URL of a tar archive. Requires `sha256`."""

    git: GitUrl | None = None
    """The URL of a Git repository. Requires `commit`."""

    path: SourceTree | None = None
    """A source tree on the control machine."""

    packages: ToolsVersion | None = None
    """The distribution's own packages, by the version of llama.cpp-tools: `1:0.7.0+dfsg-2`. Nothing is compiled. Requires `ggml`. When the
    release is made, the host's apt must offer both versions: Debian's unstable and testing suites have them."""

    ggml: GgmlVersion | None = None
    """The version of libggml0 that goes with `packages`: `0.27.0-1`. `apt-cache policy llama.cpp-tools libggml0` shows both."""

    sha256: Sha256 | None = None
    """The digest of the archive or the source distribution. Paddock knows that of the version that it builds by default."""

    plain_http: bool = False
    """Allow a package index without TLS, such as a mirror in your own network. The digest is checked all the same."""

    commit: Commit | None = None
    """The full commit to build."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("sha256") and isinstance(sdist := data.get("sdist"), str) and sdist in PINNED:
            return {**data, "sha256": PINNED[sdist]}
        return data

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if self.ggml and not self.packages:
            raise ValueError("ggml is the version that goes with packages: give packages too, or leave ggml out")
        given = [name for name in KINDS if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS[:-1])} and {KINDS[-1]}, this has {' and '.join(given) or 'none'}")
        self._packages_are_whole()
        if self.archive and not self.sha256:
            raise ValueError("an archive needs sha256, the digest of the file")
        if self.git and not self.commit:
            raise ValueError("a git source needs the full commit (40 hex digits), because a branch or a tag can move")
        if self.plain_http and not self.sdist:
            raise ValueError("plain_http is for the package index of an sdist, and this source has another kind")
        return self

    def _packages_are_whole(self) -> None:
        if not self.packages:
            return
        if not self.ggml:
            raise ValueError("packages needs ggml, the version of libggml0: `apt-cache policy libggml0` on the host shows it")
        if ":" not in self.packages:
            raise ValueError(f"packages: write the epoch too, as in 1:{self.packages}")
        if self.sha256 or self.commit:
            raise ValueError("packages have no sha256 and no commit here: apt checks them by the archive's signature")
        if tuple(map(int, re.findall(r"[0-9]+", self.label)[:3])) < OLDEST_PACKAGES:
            oldest = ".".join(map(str, OLDEST_PACKAGES))
            raise ValueError(f"packages: llama.cpp {self.label} is too old, its router can end or lose requests: take {oldest} or newer")

    @property
    def unpinned(self) -> str:
        """What is asked of a package index without a digest: `llama-cpp-python==0.3.35`; empty where it is known what is to come."""
        return self.sdist if self.sdist and not self.sha256 else ""

    def pinned(self, digests: Mapping[str, str]) -> Source:
        """With the sha256 that `digests` has of it (sdist → sha256), unless it has one itself."""
        found = digests.get(self.unpinned)
        return self.model_copy(update={"sha256": found}) if found else self

    @property
    def identity(self) -> str:
        """A text that identifies the source: `sdist llama-cpp-python==0.3.36 832db069…`, with all of its digest."""
        if self.packages:
            return f"packages llama.cpp {self.packages} ggml {self.ggml}"
        if self.git:
            return f"git {self.commit}"
        if self.archive:
            return f"archive {self.sha256}"
        return f"sdist {self.sdist} {self.sha256 or ''}".rstrip() if self.sdist else f"path {self.path}"

    @property
    def label(self) -> str:
        """A short name for a directory: `0.3.36`, `0c1e570`; of packages the version of llama.cpp itself: `0.7.0`."""
        if self.packages:
            return re.split(r"[^0-9.]", self.packages.partition(":")[2])[0]
        name = (self.commit or self.sha256 or "")[:7] if not self.sdist else self.sdist.partition("==")[2]
        return name or re.sub(r"[^A-Za-z0-9.]+", "-", (self.path or "").rstrip("/").rpartition("/")[2]).strip("-") or "tree"


DEFAULT = Source(sdist="llama-cpp-python==0.3.36")
"""What is built unless an inventory says otherwise."""

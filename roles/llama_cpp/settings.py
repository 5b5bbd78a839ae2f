from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from roles.role import LocalPath, Matches, Name, RoleSettings, Settings, Sha256, Url

Commit = Annotated[str, Matches(r"[0-9a-f]{40}", "is no full commit: that is 40 hex digits in lower case")]
Sdist = Annotated[str, Matches(r"llama[-_]cpp[-_]python==[0-9][0-9A-Za-z.]*", "is not written like llama-cpp-python==0.3.36")]
GitUrl = Annotated[str, Matches(r"(https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+", "is no address of a Git repository")]
CMakeOption = Annotated[str, Matches(r"[A-Z][A-Z0-9_]*", "is no CMake option: they are written like GGML_AVX512")]


def _no_rocm(value: object) -> object:
    if value in ("rocm", "hip"):
        raise ValueError(f'"{value}" is not supported: AMD cards run on Vulkan here, write accelerator: vulkan')
    return value


Accelerator = Annotated[Literal["auto", "cpu", "cuda", "vulkan"], BeforeValidator(_no_rocm)]


class Source(Settings):
    """Where llama.cpp's source comes from: exactly one of `sdist`, `archive`, `git` and `path`. Hosts do not fetch it, they are sent it."""

    sdist: Sdist | None = None
    """A source distribution of llama-cpp-python, which carries a whole llama.cpp: for networks where only a PyPI mirror answers."""

    archive: Url | None = None
    """The URL of a tar archive; `sha256` is then required."""

    git: GitUrl | None = None
    """The URL of a Git repository; `commit` is then required."""

    path: LocalPath | None = None
    """A source tree on the control machine."""

    sha256: Sha256 | None = None
    """The digest of the archive, or of the source distribution."""

    commit: Commit | None = None
    """The full commit to build."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in ("sdist", "archive", "git", "path") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of sdist, archive, git and path, this has {' and '.join(given) or 'none'}")
        if self.archive and not self.sha256:
            raise ValueError("an archive needs its sha256: the digest of what you mean to build")
        if self.git and not self.commit:
            raise ValueError("a git source needs the full commit (40 hex digits), a branch or a tag can move")
        return self

    @property
    def identity(self) -> str:
        """What tells one source from another: `sdist llama-cpp-python==0.3.36`."""
        if self.git:
            return f"git {self.commit}"
        if self.archive:
            return f"archive {self.sha256}"
        return f"sdist {self.sdist}" if self.sdist else f"path {self.path}"

    @property
    def label(self) -> str:
        """Short, for a directory's name: `0.3.36`, `0c1e570`."""
        name = (self.commit or self.sha256 or "")[:7] if not self.sdist else self.sdist.partition("==")[2]
        return name or re.sub(r"[^A-Za-z0-9.]+", "-", (self.path or "").rstrip("/").rpartition("/")[2]).strip("-") or "tree"


Program = Annotated[str, Matches(r"llama-[a-z0-9-]+", "is no program of llama.cpp: those are called llama-…")]


class LlamaCppSettings(RoleSettings):
    """llama.cpp, built from source for the host's own hardware."""

    source: Source = Source(sdist="llama-cpp-python==0.3.36")
    """What is built."""

    accelerator: Accelerator = "auto"
    """What the models run on. `auto` takes NVIDIA cards whose driver works (CUDA), else AMD's and Intel's GPUs (Vulkan), else the CPU;
    `paddock plan` says why."""

    cpu: Literal["auto", "portable"] = "auto"
    """`auto` builds for the host's own processor, `portable` for every processor of its architecture: all variants in one release, which is
    larger and takes longer to build; the best of them is loaded at run time."""

    vulkan_device: Literal["gpu", "any"] = "gpu"
    """`any` takes a Vulkan device that is no GPU too, such as Mesa's for the processor: to rehearse, not to serve."""

    options: dict[CMakeOption, str | bool | int] = {}
    """Any CMake option, over what the profile says: `{GGML_AVX512: off}`."""

    jobs: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Compilers at a time; by default one a core, fewer where memory is short."""

    builder: Name | Literal[False] | None = None
    """The host of the fleet that compiles for this one; `false`: none does, only an imported artifact is installed. By default the host
    itself compiles, or the first of those hosts that need just the same release."""

    ui: bool = True
    """llama-server's web page, built from the same source on the control machine, once: that takes Node.js, or pip to fetch it, and two
    minutes. Off, nothing is served at `/`."""

    programs: tuple[Program, ...] = ()
    """Further programs of llama.cpp to build, beside llama-server and llama-bench: `[llama-quantize, llama-gguf-split]`."""

    serve: bool = True
    """Off for a host that only compiles for others."""

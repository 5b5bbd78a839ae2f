from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from roles.references import Finding, Whole
from roles.role import LINE_ENDS, Matches, Name, RoleSettings, Settings
from roles.source import DEFAULT, Source
from roles.wording import quoted

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

CMakeOption = Annotated[str, Matches(r"[A-Z][A-Z0-9_]*", "is not a CMake option, such as GGML_AVX512")]
CMakeValue = Annotated[str, Matches(rf"[^{LINE_ENDS}]*", "contains a control character, which a command line cannot contain")]


def _no_rocm(value: object) -> object:
    if value == "rocm":
        raise ValueError('"rocm" is not built from source: write vulkan for AMD cards, or hip with the packages of source.packages')
    return value


Accelerator = Annotated[Literal["auto", "cpu", "cuda", "vulkan", "hip"], BeforeValidator(_no_rocm)]


def _no_worker(value: object) -> object:
    if value in ("ggml-rpc-server", "rpc-server"):
        raise ValueError(f'"{value}" is built wherever it is needed: add the role rpc_worker to the host that is to run it')
    return value


PACKAGED = (
    *("llama-batched-bench", "llama-bench", "llama-cli", "llama-completion", "llama-fit-params", "llama-gguf-split", "llama-imatrix"),
    *("llama-mtmd-cli", "llama-perplexity", "llama-quantize", "llama-server", "llama-tokenize", "llama-tts"),
)
"""The programs in Debian's llama.cpp-tools and llama.cpp-tools-extra (0.7.0)."""


Program = Annotated[
    str,
    BeforeValidator(_no_worker),
    Matches(r"llama-[a-z0-9-]+", "is not a program of llama.cpp: their names begin with llama-"),
]


DiskSize = Annotated[str, Matches(r"[1-9][0-9]{0,8}[MGT]", "is not a size on a disk, such as 20G")]


class Keep(Settings):
    """How many releases a host keeps. `paddock plan` shows which ones leave."""

    releases: Annotated[int, Field(ge=2, le=100)] = 3
    """How many, with the one that serves and the one before it: these two always stay, and so does one that a process still runs."""

    disk: DiskSize | None = None
    """How much disk the others may take: `20G`. By default nothing but their number counts."""

    @property
    def disk_mib(self) -> int:
        """0 where it is not said."""
        return int(self.disk[:-1]) * 1024 ** "MGT".index(self.disk[-1]) if self.disk else 0


class LlamaCppSettings(RoleSettings):
    """llama.cpp: built from source for the host's hardware, or made of the distribution's packages."""

    rolls_back = True

    source: Source = DEFAULT
    """The source to build, or the packages to take."""

    accelerator: Accelerator = "auto"
    """The backend. `auto` selects NVIDIA cards with a working driver (CUDA), else AMD and Intel GPUs (Vulkan), else the CPU. `paddock plan`
    shows the reason. `hip`, for AMD cards, comes with the distribution's packages only: see `source.packages`."""

    cpu: Literal["auto", "portable"] = "auto"
    """`auto` builds for the host's own processor. `portable` builds for every processor of its architecture: all variants in one release,
    which is larger and takes longer to build. The best variant is loaded at run time."""

    vulkan_device: Literal["gpu", "any"] = "gpu"
    """`any` also accepts Vulkan devices that are not GPUs, such as Mesa's CPU driver: for rehearsals, not for serving."""

    options: dict[CMakeOption, CMakeValue | bool | int] = {}
    """CMake options; they override the profile: `{GGML_AVX512: off}`."""

    jobs: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Parallel compilers; by default one per core, fewer if memory is short."""

    builder: Name | Literal[False] | None = None
    """The host of the fleet that compiles for this one. `false`: no host compiles, Paddock installs only an existing artifact. By default
    the host itself compiles, or the first of the hosts that need the same release."""

    ui: bool | None = None
    """Include llama-server's web page, built once from the same source on the control machine. By default it is, but packages have none.
    The build needs Node.js, or pip to fetch it, and takes some minutes. Without the page, `/` serves nothing."""

    programs: tuple[Program, ...] = ()
    """Additional llama.cpp programs to build, besides llama-server and llama-bench: `[llama-quantize, llama-gguf-split]`."""

    serve: bool = True
    """Set to `false` for a host that only compiles for others."""

    keep: Keep = Keep()
    """The releases that the host keeps, for `paddock rollback`. The others leave at the end of a run."""

    @field_validator("accelerator", "options", "jobs", "builder", "ui", "programs")
    @classmethod
    def _fits_its_source(cls, value: object, info: ValidationInfo) -> object:
        """Of packages nothing is compiled, and HIP is never compiled here. The source comes first: see the order of the fields."""
        source, words = info.data.get("source"), ""
        if not isinstance(source, Source):
            return value
        if not source.packages:
            words = "hip comes with the distribution's packages: give `source: {packages: …}`, or write vulkan" if value == "hip" else ""
        elif value == "cuda":
            words = "the distribution's packages have no CUDA: build another source, or write vulkan or cpu"
        elif info.field_name in ("options", "jobs", "builder") and value:
            words = "nothing is compiled of packages: leave it out, or build another source"
        elif info.field_name == "ui" and value:
            words = "the packages have no web page: leave it out, or build another source"
        elif isinstance(value, tuple) and (unknown := [each for each in value if each not in PACKAGED]):
            words = f"the packages have no {unknown[0]}: they have {', '.join(PACKAGED)}"
        if words:
            raise ValueError(words)
        return value

    @property
    def has_page(self) -> bool:
        """Whether llama-server has its web page."""
        return self.ui is not False and not self.source.packages

    def rehearsed(self, here: Rehearsal) -> tuple[LlamaCppSettings, list[str]]:
        """A lab host has the processor, which Vulkan can run on too. A container sees the cards of the machine that it runs on, and can
        use none of them, so that nothing is left to detection."""
        moved, told = here.moved(self)
        update: dict[str, Any] = {}
        if self.serve and self.accelerator == "vulkan":
            update = {"vulkan_device": "any"}
            if self.vulkan_device != "any":
                told.append(f"{here.host}: Vulkan computes on the processor, by Mesa's driver: llama_cpp.vulkan_device is any.")
        elif self.serve and self.accelerator != "cpu":
            told.append(f"{here.host}: there is no GPU, so llama_cpp.accelerator is cpu in place of {self.accelerator}.")
            options = {name: value for name, value in self.options.items() if "CUDA" not in name and "VULKAN" not in name}
            if dropped := ", ".join(name for name in self.options if name not in options):
                told.append(f"{here.host}: llama_cpp.options is without {dropped}, which a build for the processor does not have.")
            update = {"accelerator": "cpu", "options": options}
        return moved.model_copy(update=update), told

    def suite_in_lab(self) -> str:
        return "sid" if self.source.packages else ""

    def llama_cpp_source(self) -> Source:
        return self.source

    def pinned(self, digests: Mapping[str, str]) -> Self:
        return self.model_copy(update={"source": self.source.pinned(digests)})

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """Who compiles for a host carries llama.cpp too, and where llama.cpp is only compiled there is nothing that could serve."""
        if self.builder and self.builder not in fleet.roles:
            words = fleet.no_host(self.builder)
            yield Finding(("roles", "llama_cpp", "builder"), f"{words}: builder names a host of the fleet", of_value=True)
        elif self.builder and "llama_cpp" not in fleet.roles[self.builder]:
            words = (
                f"host {quoted(self.builder)} carries no llama_cpp: add the role to it, with `serve: false` if it only compiles for others"
            )
            yield Finding(("roles", "llama_cpp", "builder"), words, of_value=True)
        for role in ("models", "rpc_worker", "llama_server") if not self.serve else ():
            if role in fleet.roles[host]:
                words = f"{host} only compiles (llama_cpp has `serve: false`): leave {role} out, or leave `serve` out"
                yield Finding(("roles", role), words)

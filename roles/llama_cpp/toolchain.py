"""The toolchain: what compiles a profile on a machine, be it the host itself, another one, or one of another architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from roles.devices import is_jetson
from roles.llama_cpp import cpu, cuda, vulkan

if TYPE_CHECKING:
    from resources import Release
    from roles.llama_cpp.profile import Profile

PACKAGES = ("ccache", "cmake", "ninja-build")

SUITES = {"debian 12": "bookworm", "debian 13": "trixie"}
"""Distributions that any Debian can hold a tree of, to compile in: with the target's C library in place of its own."""

# The C library of each distribution, its g++, and all the versions of g++ that it carries.
LIBC = {"debian 12": "2.36", "debian 13": "2.41", "ubuntu 22.04": "2.35", "ubuntu 24.04": "2.39"}
GCC = {"debian 12": 12, "debian 13": 14, "ubuntu 22.04": 11, "ubuntu 24.04": 13}
GCC_TOO = {"debian 12": (11, 12), "debian 13": (12, 13, 14), "ubuntu 22.04": (9, 10, 11, 12), "ubuntu 24.04": (9, 10, 11, 12, 13, 14)}

# Distributions whose Vulkan is too old for llama.cpp, and in what: ggml-vulkan.cpp takes vk::LayerSettingEXT from the headers.
NO_VULKAN = {
    "debian 12": "its Vulkan headers (1.3.239) lack what llama.cpp uses",
    "ubuntu 22.04": "it has no glslc, and its Vulkan headers (1.3.204) lack what llama.cpp uses",
}

# The first GCC that takes the flags of an option, or of a part of GCC's -march.
OLDEST_GCC = 8
"""The first with a complete C++17, as llama.cpp is written in."""
GCC_FOR_X86_64 = {"GGML_AVX512_BF16": 10, "GGML_AVX_VNNI": 11, "GGML_AMX_TILE": 11, "GGML_AMX_INT8": 11, "GGML_AMX_BF16": 11}
GCC_FOR_ARM = {"i8mm": 10, "sve2": 10, "sme": 14}
GCC_FOR_VARIANTS = {"x86_64": 11, "aarch64": 14}

CROSS = {("x86_64", "aarch64"): "aarch64-linux-gnu"}
"""From and to → the triplet of Debian's cross compiler."""

# What the largest file takes to compile (seen with 0.3.36: 604 MiB, ggml-vulkan.cpp 1292 MiB, nvcc 523 MiB for compute capability
# 6.1), and what to count on for each compiler that runs at a time, beside what the system and its services need.
LEAST_MIB = {"cpu": 700, "vulkan": 1400, "cuda": 700}
JOB_MIB = {"cpu": 1536, "vulkan": 1536, "cuda": 2048}

# The source and the build directory; CUDA's toolkit is 5.6 GB on top.
DISK_MIB = {"cpu": 700, "vulkan": 1200, "cuda": 3000}
TOOLKIT_MIB = 5600


@dataclass(frozen=True)
class Toolchain:
    """The builder's packages, the CMake options that say where they are, and the triplet of the cross compiler, if it takes one.

    With a `suite`, it is compiled in a tree of that release of Debian, and `inside` are that tree's packages.
    """

    packages: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    triplet: str = ""
    suite: str = ""
    inside: tuple[str, ...] = ()


def toolchain(profile: Profile, builder: Hardware, target: Hardware) -> Toolchain:
    """What compiles the profile of `target` on `builder`. An option that the inventory states is left to it.

    Raises PaddockError where the builder cannot: another architecture, a newer C library, a compiler or CUDA that does not fit.
    """
    given = dict(profile.options)
    triplet = _triplet(builder, target)
    suite = ""
    if _may_have_newer_libc(builder, target):
        suite = _suite(builder, target)
        builder = replace(builder, distribution=target.distribution, libc="", compilers={})
    if triplet and profile.backend != "cpu":
        raise PaddockError(
            f"roles.llama_cpp.builder: {builder.architecture} does not build for {profile.backend} on {target.architecture}:"
            f" name a builder with {target.architecture}, or leave `builder` out"
        )
    packages, options = [*PACKAGES], dict[str, str]()
    if triplet:
        options |= {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": target.architecture}
    suffix = _gcc(given, builder, target, cross=bool(triplet))
    packages.append("-".join(filter(None, (f"g++{suffix}", triplet))))
    if triplet or suffix:
        prefix = f"{triplet}-" if triplet else ""
        options |= {"CMAKE_C_COMPILER": f"{prefix}gcc{suffix}", "CMAKE_CXX_COMPILER": f"{prefix}g++{suffix}"}
    if profile.backend == "vulkan":
        packages += _vulkan(given, builder)
    if profile.backend == "cuda":
        more, where = _cuda(given, builder, target)
        packages += more
        options |= where
    left = {name: value for name, value in options.items() if name not in given}
    needed, stated = tuple(sorted(packages)), tuple(sorted(left.items()))
    return Toolchain(("mmdebstrap",), stated, triplet, suite, needed) if suite else Toolchain(needed, stated, triplet)


def jobs(builder: Hardware, wanted: int | None, backend: str) -> int:
    """Compilers at a time: what the inventory says, else one a core, fewer where memory is short."""
    return wanted or max(1, min(builder.cores, builder.memory_mib // JOB_MIB[backend]))


def check_room(built: Profile | Release, builder: Hardware) -> None:
    """Raises PaddockError where even a single compiler has no room. Ask it of fresh facts: memory and disks change without a trace in
    what a host's identity is made of. What is not known (0) is not refused."""
    disk_mib = DISK_MIB[built.backend] + (TOOLKIT_MIB if built.backend == "cuda" and "nvcc" not in builder.compilers else 0)
    other = "name another host as `builder`"
    if 0 < builder.memory_mib < LEAST_MIB[built.backend]:
        raise PaddockError(
            f"roles.llama_cpp: one compiler alone needs {LEAST_MIB[built.backend]} MiB of memory to build for {built.backend},"
            f" and the builder has {builder.memory_mib} MiB: {other}"
        )
    if 0 < builder.disk_free_mib < disk_mib:
        raise PaddockError(
            f"roles.llama_cpp: building for {built.backend} takes {disk_mib} MiB of disk, and the builder has {builder.disk_free_mib} MiB"
            f" free: make room there, or {other}"
        )


def _triplet(builder: Hardware, target: Hardware) -> str:
    if builder.architecture == target.architecture:
        return ""
    try:
        return CROSS[builder.architecture, target.architecture]
    except KeyError:
        raise PaddockError(
            f"roles.llama_cpp.builder: {builder.architecture} does not build for {target.architecture}:"
            f" name a builder with {target.architecture}, or leave `builder` out"
        ) from None


def _may_have_newer_libc(builder: Hardware, target: Hardware) -> bool:
    """What is linked with a C library runs with that one and newer ones."""
    here, there = _libc(builder), _libc(target)
    if here and there:  # releases without a number, Debian's unstable and testing, have one name over many versions
        return cuda.version(here) > cuda.version(there)
    return builder.distribution != target.distribution


def _libc(machine: Hardware) -> str:
    return machine.libc or LIBC.get(machine.distribution, "")


def _suite(builder: Hardware, target: Hardware) -> str:
    """The release of Debian to compile in. Raises PaddockError where the builder cannot hold a tree of the target's."""
    if builder.distribution.startswith("debian ") and target.distribution in SUITES:
        return SUITES[target.distribution]
    here, there = _libc(builder), _libc(target)
    words = f"has a newer C library ({here}) than" if here and there else "may have a newer C library than"
    raise PaddockError(
        f"roles.llama_cpp.builder: {_titled(builder)} {words} {_titled(target)}{f' ({there})' if here and there else ''}:"
        f" name {'an older builder' if builder.distribution == target.distribution else f'a builder with {_titled(target)}'},"
        " or leave `builder` out"
    )


def _gcc(given: Mapping[str, str], builder: Hardware, target: Hardware, *, cross: bool) -> str:
    """`-14` where the distribution's g++ is too old for these options and it has another one that is not; else nothing."""
    needed, what = _oldest_gcc(given, target)
    installed = "" if cross else builder.compilers.get("g++", "") or builder.compilers.get("gcc", "")
    own = cuda.version(installed)[0] if cuda.version(installed) else GCC.get(builder.distribution, needed)
    if own >= needed or "CMAKE_CXX_COMPILER" in given:
        return ""
    for newer in GCC_TOO.get(builder.distribution, ()):
        if newer >= needed:
            return f"-{newer}"
    raise PaddockError(
        f"roles.llama_cpp: {what} needs GCC {needed} or later, and {_titled(builder)} has GCC {own}: name a builder that has it"
        + (", or leave `cpu: portable` out" if given.get("GGML_CPU_ALL_VARIANTS") == "ON" else "")
    )


def _oldest_gcc(given: Mapping[str, str], target: Hardware) -> tuple[int, str]:
    """The oldest GCC that takes these options, and what asks for it."""
    found = [(OLDEST_GCC, "llama.cpp")]
    if given.get("GGML_CPU_ALL_VARIANTS") == "ON":
        found.append((GCC_FOR_VARIANTS[target.architecture], f"a portable build for {cpu.ARCHITECTURES[target.architecture]}"))
    found += [(oldest, name) for name, oldest in GCC_FOR_X86_64.items() if given.get(name) == "ON"]
    found += [(GCC_FOR_ARM[part], f"{cpu.ARM}={given[cpu.ARM]}") for part in given.get(cpu.ARM, "").split("+") if part in GCC_FOR_ARM]
    return max(found, key=lambda each: each[0])


def _vulkan(given: Mapping[str, str], builder: Hardware) -> tuple[str, ...]:
    why = NO_VULKAN.get(builder.distribution)
    if why and "CMAKE_PREFIX_PATH" not in given:
        raise PaddockError(
            f"roles.llama_cpp: {_titled(builder)} cannot build for Vulkan, {why}: upgrade to Debian 13 or Ubuntu 24.04, say"
            " `accelerator: cpu`, or install the Vulkan SDK and say where: `options: {CMAKE_PREFIX_PATH: …}`"
        )
    return () if why else vulkan.BUILD_PACKAGES


def _cuda(given: Mapping[str, str], builder: Hardware, target: Hardware) -> tuple[list[str], dict[str, str]]:
    """The packages, and where nvcc and its host compiler are: the installed toolkit where it fits, else the distribution's."""
    if "CMAKE_CUDA_COMPILER" in given:
        return [], {}
    version, where, packages = _toolkit(given, builder)
    carried = None if is_jetson(target) else cuda.TOOLKITS.get(target.distribution)
    if builder.distribution != target.distribution and carried and cuda.version(carried.version)[0] != cuda.version(version)[0]:
        raise PaddockError(
            f"roles.llama_cpp.builder: {_titled(builder)} builds with CUDA {version}, and {_titled(target)} has the libraries of CUDA"
            f" {carried.version}: name a builder with {_titled(target)}, or leave `builder` out"
        )
    oldest = cuda.DRIVER_FOR.get(cuda.version(version)[0], 0)
    driver = cuda.version(target.nvidia_driver)
    if driver and driver[0] < oldest:
        raise PaddockError(
            f"roles.llama_cpp: programs of CUDA {version} need driver {oldest} or later, and driver {target.nvidia_driver} is installed:"
            f" install driver {max(oldest, cuda.LAST_DRIVER)}"
        )
    newest = cuda.host_gcc(version)
    fitting = [each for each in GCC_TOO.get(builder.distribution, ()) if each <= newest]
    if not fitting or GCC[builder.distribution] <= newest:
        return packages, {"CMAKE_CUDA_COMPILER": where}
    return [*packages, f"g++-{fitting[-1]}"], {"CMAKE_CUDA_COMPILER": where, "CMAKE_CUDA_HOST_COMPILER": f"/usr/bin/g++-{fitting[-1]}"}


def _toolkit(given: Mapping[str, str], builder: Hardware) -> tuple[str, str, list[str]]:
    """Its version, its nvcc, and its packages."""
    capabilities = cuda.capabilities_in(given.get(cuda.ARCHITECTURES, ""))
    carried = None if is_jetson(builder) else cuda.TOOLKITS.get(builder.distribution)
    installed = ".".join(builder.compilers.get("nvcc", "").split(".")[:2])
    refused = []
    if installed and (not carried or carried.version != installed):  # NVIDIA's own packages put it there, and not on everybody's path
        if not (why := cuda.fits(installed, capabilities)):
            return installed, "/usr/local/cuda/bin/nvcc", []
        refused.append(why)
    if carried:
        if not (why := cuda.fits(carried.version, capabilities)):
            return carried.version, "/usr/bin/nvcc", [carried.package]
        refused.append(why)
    if not refused:
        refused.append(f"{_titled(builder)} has no CUDA toolkit that Paddock knows of")
    raise PaddockError(
        f"roles.llama_cpp: {', and '.join(refused)}: install a CUDA that fits from NVIDIA's archive, where /usr/local/cuda leads to it,"
        " or say where its nvcc is: `options: {CMAKE_CUDA_COMPILER: …}`"
    )


def _titled(machine: Hardware) -> str:
    """`Debian 13`"""
    return machine.distribution[:1].upper() + machine.distribution[1:] or "an unknown distribution"

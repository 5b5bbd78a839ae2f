"""The profile: the build options that fit a host's hardware, each with the reason why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import OF_32_BITS, Hardware
from roles.devices import is_jetson
from roles.llama_cpp import cpu, cuda, hip, packages, vulkan
from roles.llama_cpp.accelerator import Backend, accelerator
from roles.llama_cpp.cpu import Chosen
from roles.llama_cpp.settings import LlamaCppSettings

# What holds for every host, and why it is said although some of it is a default: defaults change between versions of llama.cpp.
COMMON: Chosen = {
    "CMAKE_BUILD_TYPE": ("Release", "optimised"),
    "CMAKE_INSTALL_RPATH": ("$ORIGIN", "libraries, where there are any, lie beside the programs"),
    "CMAKE_BUILD_WITH_INSTALL_RPATH": ("ON", "else a program looks for its libraries in the build directory"),
    "LLAMA_BUILD_TESTS": ("OFF", "a host serves"),
    "LLAMA_BUILD_EXAMPLES": ("OFF", "a host serves"),
    "LLAMA_BUILD_APP": ("OFF", "a host serves"),
    "LLAMA_BUILD_TOOLS": ("ON", "llama-bench is one"),
    "LLAMA_BUILD_SERVER": ("ON", "what a host serves with"),
    "LLAMA_SUBPROCESS": ("ON", "the router starts a server for each model"),
    "LLAMA_BUILD_UI": ("OFF", "the web page comes with the source, built"),
    "LLAMA_USE_PREBUILT_UI": ("OFF", "it downloads whatever is the latest while it builds"),
    "LLAMA_OPENSSL": ("OFF", "TLS is the reverse proxy's"),
    "GGML_NATIVE": ("OFF", "the flags below say what the processor has; with it on, the compiler guesses"),
    "GGML_CCACHE": ("ON", "a second build takes seconds"),
    "GGML_OPENMP": ("ON", "threads by GCC's OpenMP"),
    "GGML_LLAMAFILE": ("ON", "faster prompts on CPUs"),
    "GGML_CPU_REPACK": ("ON", "faster Q4_0 on CPUs"),
    "GGML_CPU_KLEIDIAI": ("OFF", "it downloads while it configures"),
    "GGML_BLAS": ("OFF", "no BLAS library is asked for"),
    "GGML_HIP": ("OFF", "AMD's cards run on Vulkan"),
    "GGML_CUDA": ("OFF", "the accelerator is another"),
    "GGML_VULKAN": ("OFF", "the accelerator is another"),
}

RPC: Chosen = {
    "GGML_RPC": ("ON", "one model is computed by several hosts"),
    "GGML_RPC_RDMA": ("OFF", "what goes by RDMA goes around the tunnel"),
}
"""Of a host that computes for others, or has others compute for it. Other hosts' builds stay as they are."""

RUNTIME_PACKAGES = ("libgomp1", "libstdc++6")
"""What every build needs at run time."""

SMALL_CORES, SMALL_MIB = 4, 4000
"""An ARM board with no more cores, or less memory, compiles for long."""
TINY_MIB = 1500
"""With less, any machine does: a single compiler runs at a time."""

NAMES = {"cpu": "the CPU", "cuda": "CUDA", "vulkan": "Vulkan", "hip": "HIP"}


@dataclass(frozen=True)
class Profile:
    """What is built for a host, and why. It depends on the host alone, not on where it is compiled: that is `toolchain`.

    `options` are CMake's, all stated and sorted; `reasons` has one for `backend`, one for `build` where a build on the host itself is no
    good idea, then one for each option. `environment` holds at run time; `devices` are what `llama-server --list-devices` must then list;
    `cpu_features` are the flags of /proc/cpuinfo that the built code uses.
    """

    name: str
    """`x86-64 without AVX, for CUDA 6.1`"""
    backend: Backend
    options: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    runtime_packages: tuple[str, ...] = RUNTIME_PACKAGES
    environment: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    cpu_features: tuple[str, ...] = ()


def profile(hardware: Hardware, settings: LlamaCppSettings, kv_pairs: Iterable[str] = (), *, rpc: bool = False) -> Profile:
    """What fits this hardware, with what the inventory says over it. `kv_pairs` are those of the host's presets (`cuda.kv_pairs`); `rpc`
    says whether the host computes for others, or has others compute for it.

    Raises PaddockError where the architecture is not built for, or where the accelerator that is asked for cannot be used.
    """
    if hardware.architecture not in cpu.ARCHITECTURES:
        raise PaddockError(
            f"roles.llama_cpp: releases are built for {' and '.join(cpu.ARCHITECTURES)}, not for {hardware.architecture}{_bits(hardware)}:"
            " install a 64-bit system if the processor takes one, or leave the role off this host"
        )
    backend, why = accelerator(hardware, settings)
    given = {name: _cmake(value) for name, value in settings.options.items()}
    packaged = bool(settings.source.packages)
    chosen = packages.OPTIONS if packaged else COMMON | cpu.instruction_sets(hardware, portable=settings.cpu == "portable")
    if backend == "cuda":
        chosen = chosen | cuda.options(hardware, kv_pairs, given.get(cuda.ARCHITECTURES, ""))
    if backend == "vulkan":
        chosen = chosen | vulkan.OPTIONS
    if backend == "hip":
        chosen = chosen | hip.OPTIONS
    if rpc:
        chosen = chosen | RPC
    chosen = chosen | {name: (value, "the inventory says so") for name, value in given.items()}
    chosen = dict(sorted(chosen.items()))
    options = {name: value for name, (value, _) in chosen.items()}
    return Profile(
        name=f"{cpu.name(hardware, options)}, for {_target(backend, options)}",
        backend=backend,
        options=tuple(options.items()),
        reasons=(("backend", why), *_build(hardware, settings), *((name, reason) for name, (_, reason) in chosen.items())),
        runtime_packages=tuple(
            sorted({*RUNTIME_PACKAGES, *_runtime_packages(hardware, backend, options), *(packages.RUNTIME_PACKAGES if packaged else ())})
        ),
        environment=_environment(hardware, settings, backend),
        devices=_devices(hardware, backend),
        cpu_features=cpu.features(options),
    )


def _bits(hardware: Hardware) -> str:
    return ", the 32 bits of its programs, though its kernel has 64" if hardware.architecture in OF_32_BITS else ""


def _target(backend: Backend, options: dict[str, str]) -> str:
    """`CUDA 6.1 and 8.6`"""
    capabilities = cuda.capabilities_in(options.get(cuda.ARCHITECTURES, "")) if backend == "cuda" else ()
    return " ".join(filter(None, (NAMES[backend], " and ".join(capabilities))))


def _build(hardware: Hardware, settings: LlamaCppSettings) -> tuple[tuple[str, str], ...]:
    board = hardware.architecture == "aarch64" and (hardware.cores <= SMALL_CORES or hardware.memory_mib < SMALL_MIB)
    if settings.source.packages or settings.builder is not None or not (board or 0 < hardware.memory_mib < TINY_MIB):
        return ()
    size = f"{hardware.cores} cores with {hardware.memory_mib} MiB"
    return (("build", f"compiling takes long on {size}: `builder` can name a quicker host of the fleet"),)


def _runtime_packages(hardware: Hardware, backend: Backend, options: dict[str, str]) -> tuple[str, ...]:
    if backend == "hip":
        return hip.RUNTIME_PACKAGES
    if backend == "vulkan":
        return vulkan.runtime_packages(hardware)
    toolkit = cuda.TOOLKITS.get(hardware.distribution) if backend == "cuda" else None
    if not toolkit or is_jetson(hardware) or cuda.fits(toolkit.version, cuda.capabilities_in(options.get(cuda.ARCHITECTURES, ""))):
        return ()  # NVIDIA's own toolkit brings its libraries along
    return toolkit.runtime_packages


def _environment(hardware: Hardware, settings: LlamaCppSettings, backend: Backend) -> tuple[tuple[str, str], ...]:
    if backend == "cuda":
        return cuda.ENVIRONMENT
    if backend == "vulkan" and settings.vulkan_device == "any" and not vulkan.usable(hardware):
        return vulkan.ENVIRONMENT_OF_ANY
    return ()


def _devices(hardware: Hardware, backend: Backend) -> tuple[str, ...]:
    """One of each card that works, or that will have to: a card whose driver is missing must not pass unnoticed."""
    if backend == "cuda":
        works = cuda.usable(hardware) or tuple(each for each in cuda.cards(hardware) if not cuda.too_old(each))
        return tuple(f"CUDA{index}" for index in range(len(works) or 1))
    if backend == "hip":
        return tuple(f"ROCm{index}" for index in range(len(hip.usable(hardware))))
    if backend == "vulkan":
        return tuple(f"Vulkan{index}" for index in range(len(vulkan.usable(hardware)) or 1))
    return ()


def _cmake(value: str | bool | int) -> str:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return str(value)

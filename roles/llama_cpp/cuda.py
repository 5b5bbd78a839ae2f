"""CUDA: NVIDIA's cards by compute capability, the toolkits and drivers that serve each, and the options of a build for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import Hardware, compute_capability
from roles.llama_cpp.cpu import Chosen
from roles.llama_cpp.vulkan import NVIDIA, title

CudaVersion = tuple[int, ...]

# Compute capability → the first CUDA that compiles for it, and the first that does not any more
# (release notes of CUDA 11.0, 11.1, 11.8, 12.0, 12.8, 12.9 and 13.0).
CAPABILITIES: Mapping[str, tuple[CudaVersion, CudaVersion | None]] = {
    "5.0": ((6, 0), (13,)),
    "5.2": ((7, 0), (13,)),
    "5.3": ((7, 0), (13,)),
    "6.0": ((8, 0), (13,)),
    "6.1": ((8, 0), (13,)),
    "6.2": ((8, 0), (13,)),
    "7.0": ((9, 0), (13,)),
    "7.2": ((9, 2), (13,)),
    "7.5": ((10, 0), None),
    "8.0": ((11, 0), None),
    "8.6": ((11, 1), None),
    "8.7": ((11, 4), None),
    "8.9": ((11, 8), None),
    "9.0": ((11, 8), None),
    "10.0": ((12, 8), None),
    "10.3": ((12, 9), None),
    "11.0": ((13, 0), None),
    "12.0": ((12, 8), None),
    "12.1": ((12, 9), None),
}
OLDEST = (5, 0)
"""llama.cpp's CUDA begins with Maxwell."""

LAST_DRIVER, LAST_CAPABILITY = 580, (7, 5)
"""Driver 580 is the last for cards before Turing: later ones do not even list them."""

DRIVER_FOR = {11: 450, 12: 525, 13: 580}
"""The oldest driver that runs programs of a CUDA generation."""

# K/V types that FlashAttention's kernels exist for (ggml/cmake/common.cmake), and the pairs that llama.cpp compiles by default.
KV_TYPES = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16", "f16")
KV_PAIRS = ("bf16-bf16", "f16-f16", "q4_0-q4_0", "q8_0-q8_0")

ARCHITECTURES = "CMAKE_CUDA_ARCHITECTURES"
ENVIRONMENT = (("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),)
"""So that CUDA0 is the card that nvidia-smi calls 0, not whichever CUDA thinks the fastest."""


@dataclass(frozen=True)
class DistributionToolkit:
    """A CUDA toolkit that a distribution carries: nvidia-cuda-toolkit, in Debian's contrib and non-free, in Ubuntu's multiverse."""

    version: str
    runtime_packages: tuple[str, ...]
    package: str = "nvidia-cuda-toolkit"


CUDA_11 = ("libcublas11", "libcublaslt11", "libcudart11.0")
CUDA_12 = ("libcublas12", "libcublaslt12", "libcudart12")
TOOLKITS: Mapping[str, DistributionToolkit] = {
    "debian 12": DistributionToolkit("11.8", CUDA_11),
    "debian 13": DistributionToolkit("12.4", CUDA_12),
    "ubuntu 22.04": DistributionToolkit("11.5", CUDA_11),
    "ubuntu 24.04": DistributionToolkit("12.0", CUDA_12),
}

# CUDA from … on takes GCC up to … (crt/host_config.h). 11.4 and 11.5 take 11 and fail on its <functional>.
HOST_GCC = (((13, 0), 15), ((12, 8), 14), ((12, 4), 13), ((12, 0), 12), ((11, 6), 11), ((11, 1), 10), ((0,), 9))


@dataclass(frozen=True)
class CudaCard:
    """A card that a build for CUDA is to serve."""

    name: str
    capability: str
    driven: bool
    """Whether its driver works."""


def cards(hardware: Hardware) -> tuple[CudaCard, ...]:
    """All of NVIDIA's: as the driver names them, or as PCI does where no driver works."""
    driven = tuple(CudaCard(each.name, each.compute_capability, True) for each in hardware.nvidia_cards)
    known = {each.address for each in hardware.nvidia_cards}
    alone = tuple(
        CudaCard(title(each), compute_capability(each), False)
        for each in hardware.gpus
        if each.vendor == NVIDIA and each.address not in known
    )
    return driven + alone


def usable(hardware: Hardware) -> tuple[CudaCard, ...]:
    """The cards that work and are not too old for llama.cpp."""
    return tuple(each for each in cards(hardware) if each.driven and not too_old(each))


def too_old(card: CudaCard) -> bool:
    return bool(card.capability) and version(card.capability) < OLDEST


def abandoned(hardware: Hardware) -> tuple[CudaCard, ...]:
    """The cards that the installed driver has left behind."""
    driver = version(hardware.nvidia_driver)
    if not driver or driver[0] <= LAST_DRIVER:
        return ()
    return tuple(each for each in cards(hardware) if each.capability and version(each.capability) < LAST_CAPABILITY)


def named(some: Iterable[CudaCard]) -> str:
    """`8 × NVIDIA P104-100 (6.1)`"""
    counted: dict[str, int] = {}
    for each in some:
        words = f"{each.name} ({each.capability})" if each.capability else each.name
        counted[words] = counted.get(words, 0) + 1
    return ", ".join(f"{count} × {words}" if count > 1 else words for words, count in counted.items())


def remarks(hardware: Hardware) -> Iterator[str]:
    """Why what is there is not used, for people."""
    left = abandoned(hardware)
    if left:
        yield f"{named(left)} not used: driver {hardware.nvidia_driver} does not drive cards before Turing, {LAST_DRIVER} was the last"
    if old := [each for each in cards(hardware) if too_old(each)]:
        yield f"{named(old)} not used: llama.cpp's CUDA needs compute capability 5.0"
    if idle := [each for each in cards(hardware) if not each.driven and not too_old(each) and each not in left]:
        what = f"driver {hardware.nvidia_driver} does not answer" if hardware.nvidia_driver else "there is no NVIDIA driver"
        yield f"{named(idle)} not used: {what}; once nvidia-smi lists it, `paddock up` builds for CUDA"


def kv_pairs(presets: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    """The K/V pairs, as in GGML_CUDA_FA_QUANTS, that these presets use: `("q8_0-q4_0",)`. One that names no type uses f16."""
    found = set()
    for preset in presets:
        k, v = (
            str(preset.get(long, preset.get(short, "f16"))).lower() for long, short in (("cache-type-k", "ctk"), ("cache-type-v", "ctv"))
        )
        if k in KV_TYPES and v in KV_TYPES:
            found.add(f"{k}-{v}")
    return tuple(sorted(found))


def options(hardware: Hardware, pairs: Iterable[str], given: str = "") -> Chosen:
    """The options of a build for the cards; `given` is what the inventory says of CMAKE_CUDA_ARCHITECTURES. Raises PaddockError where
    there is nothing to build for, or where what is there will not run it."""
    some = _built_for(hardware, given)
    capabilities = sorted({each.capability for each in some if each.capability}, key=version)
    asked = sorted({*KV_PAIRS, *pairs})
    more = f", and {', '.join(each for each in asked if each not in KV_PAIRS)} for the presets" if set(asked) > set(KV_PAIRS) else ""
    return {
        "GGML_CUDA": ("ON", "the accelerator is CUDA"),
        ARCHITECTURES: (
            ";".join(f"{each.replace('.', '')}-real" for each in capabilities),
            f"machine code for {named(some) or given}, only",
        ),
        "GGML_CUDA_FA": ("ON", "FlashAttention"),
        "GGML_CUDA_FA_QUANTS": (",".join(asked), f"llama.cpp's own pairs of K/V types{more}; others fall back to f16"),
        "GGML_CUDA_FORCE_CUBLAS": ("OFF", "ggml chooses for each matrix"),
        "GGML_CUDA_FORCE_MMQ": ("OFF", "ggml chooses for each matrix"),
        "GGML_CUDA_GRAPHS": ("ON", "fewer launches"),
        "GGML_CUDA_NCCL": ("OFF", "no NCCL library is asked for"),
        "GGML_CUDA_NO_PEER_COPY": ("OFF", "cards copy to each other where they can"),
        "GGML_CUDA_NO_VMM": ("ON", "without libcuda linked in, the programs also start where no driver is: on the builder"),
    }


def fits(toolkit: str, capabilities: Iterable[str]) -> str:
    """Why this version of CUDA does not compile for all of them; empty where it does."""
    for each in sorted(capabilities, key=version):
        first, gone = CAPABILITIES.get(each, ((), None))
        if gone and version(toolkit) >= gone:
            return f"CUDA {toolkit} does not build for compute capability {each} any more, {gone[0] - 1}.x is the last that does"
        if version(toolkit) < first:
            return f"CUDA {toolkit} does not know compute capability {each} yet, {'.'.join(map(str, first))} is the first that does"
    return ""


def capabilities_in(architectures: str) -> tuple[str, ...]:
    """`61-real;86-real` → `("6.1", "8.6")`"""
    return tuple(f"{each[:-1]}.{each[-1]}" for each in re.findall(r"(?:^|;)([0-9]{2,3})(?=[af]?(?:-real|-virtual)?(?:;|$))", architectures))


def host_gcc(toolkit: str) -> int:
    """The newest GCC that this version of CUDA takes as its host compiler."""
    return next(newest for first, newest in HOST_GCC if version(toolkit) >= first)


def version(text: str) -> CudaVersion:
    """`580.95.05` → (580, 95, 5)"""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _built_for(hardware: Hardware, given: str) -> tuple[CudaCard, ...]:
    """Those that work, or, where none does, those that will once they have a driver."""
    works, left = usable(hardware), abandoned(hardware)
    working = tuple(each for each in works if each not in left)
    if working or (given and not left):
        return working
    if left:
        raise PaddockError(
            f"roles.llama_cpp: driver {hardware.nvidia_driver} does not drive {named(left)}: {LAST_DRIVER} is the last that drives cards"
            " before Turing; install that, or say `accelerator: cpu`"
        )
    to_come = tuple(each for each in cards(hardware) if each.capability and not too_old(each))
    if to_come:
        return to_come
    if old := [each for each in cards(hardware) if too_old(each)]:
        raise PaddockError(
            f"roles.llama_cpp.accelerator: {named(old)} is too old for llama.cpp's CUDA, which needs compute capability 5.0:"
            " say `accelerator: cpu`"
        )
    seen = named(cards(hardware))
    raise PaddockError(
        f"roles.llama_cpp.accelerator: cuda needs an NVIDIA card, and {f'no driver says what {seen} is' if seen else 'this host has none'}:"
        f" say `accelerator: auto`, or which cards to build for, such as `options: {{{ARCHITECTURES}: 61-real}}`"
    )

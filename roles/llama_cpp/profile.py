"""The profile: the build options that fit a host's hardware, each with the reason why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inventory.errors import PaddockError
from inventory.hardware import Hardware

AVX512 = ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")

# Which flags of /proc/cpuinfo an option needs: all that the compiler then uses, and -mf16c brings -mavx (ggml/src/ggml-cpu/CMakeLists.txt).
X86_64: Mapping[str, tuple[str, ...]] = {
    "GGML_SSE42": ("sse4_2",),
    "GGML_AVX": ("avx",),
    "GGML_F16C": ("avx", "f16c"),
    "GGML_FMA": ("avx", "fma"),
    "GGML_AVX2": ("avx", "avx2"),
    "GGML_BMI2": ("bmi2",),
    "GGML_AVX_VNNI": ("avx", "avx2", "avx_vnni"),
    "GGML_AVX512": AVX512,
    "GGML_AVX512_VBMI": (*AVX512, "avx512vbmi"),
    "GGML_AVX512_VNNI": (*AVX512, "avx512_vnni"),
    "GGML_AVX512_BF16": (*AVX512, "avx512_bf16"),
    "GGML_AMX_TILE": ("amx_tile",),
    "GGML_AMX_INT8": ("amx_tile", "amx_int8"),
    "GGML_AMX_BF16": ("amx_tile", "amx_bf16"),
}

# What holds for every host, and why it is said although some of it is a default: defaults change between versions of llama.cpp.
COMMON: Mapping[str, tuple[str, str]] = {
    "CMAKE_BUILD_TYPE": ("Release", "optimised"),
    "CMAKE_INSTALL_RPATH": ("$ORIGIN", "libraries, where there are any, lie beside the programs"),
    "CMAKE_BUILD_WITH_INSTALL_RPATH": ("ON", "else a program looks for its libraries in the build directory"),
    "BUILD_SHARED_LIBS": ("OFF", "a release is a few programs that need nothing of each other"),
    "LLAMA_BUILD_TESTS": ("OFF", "a host serves"),
    "LLAMA_BUILD_EXAMPLES": ("OFF", "a host serves"),
    "LLAMA_BUILD_APP": ("OFF", "a host serves"),
    "LLAMA_BUILD_TOOLS": ("ON", "llama-bench is one"),
    "LLAMA_BUILD_SERVER": ("ON", "what a host serves with"),
    "LLAMA_BUILD_UI": ("OFF", "the web page needs npm"),
    "LLAMA_USE_PREBUILT_UI": ("OFF", "it downloads whatever is the latest while it builds"),
    "LLAMA_OPENSSL": ("OFF", "TLS is the reverse proxy's"),
    "GGML_NATIVE": ("OFF", "the flags below say what the processor has; with it on, the compiler guesses"),
    "GGML_CCACHE": ("ON", "a second build takes seconds"),
    "GGML_OPENMP": ("ON", "threads by GCC's OpenMP"),
    "GGML_LLAMAFILE": ("ON", "faster prompts on CPUs"),
    "GGML_CPU_REPACK": ("ON", "faster Q4_0 on CPUs"),
    "GGML_CPU_KLEIDIAI": ("OFF", "it downloads while it configures"),
    "GGML_BLAS": ("OFF", "no BLAS library is asked for"),
    "GGML_CUDA": ("OFF", "the accelerator is the CPU"),
    "GGML_VULKAN": ("OFF", "the accelerator is the CPU"),
}

BUILD_PACKAGES = ("ccache", "cmake", "g++", "ninja-build")
RUNTIME_PACKAGES = ("libgomp1", "libstdc++6")


@dataclass(frozen=True)
class Profile:
    """CMake options, all stated, and why; the packages that the build needs."""

    options: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, str], ...]
    packages: tuple[str, ...] = BUILD_PACKAGES


def profile(hardware: Hardware, overrides: Mapping[str, str | bool | int]) -> Profile:
    """The build options for this hardware, with what the inventory says over them.

    GGML_NATIVE=OFF alone turns AVX2 and its kin on, and off again under SOURCE_DATE_EPOCH or a cross compiler
    (ggml/CMakeLists.txt, INS_ENB): so each instruction set is stated. Raises PaddockError where the architecture is not built for.
    """
    if hardware.architecture != "x86_64":
        raise PaddockError(
            f"roles.llama_cpp: releases are built for x86_64, not yet for {hardware.architecture}: leave the role off this host"
        )
    chosen = {**COMMON, **dict(_instruction_sets(hardware.cpu_flags))}
    chosen |= {name: (_cmake(value), "the inventory says so") for name, value in overrides.items()}
    return Profile(
        options=tuple((name, value) for name, (value, _) in sorted(chosen.items())),
        reasons=tuple((name, why) for name, (_, why) in sorted(chosen.items())),
    )


def _instruction_sets(cpu_flags: frozenset[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for option, needed in X86_64.items():
        missing = [flag for flag in needed if flag not in cpu_flags]
        yield option, ("OFF", f"the processor has no {missing[0]}") if missing else ("ON", f"the processor has {needed[-1]}")


def _cmake(value: str | bool | int) -> str:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return str(value)

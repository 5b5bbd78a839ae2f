"""What the options say of the processor: x86 and ARM by what it has, or one build for all of an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inventory.hardware import Hardware

Chosen = dict[str, tuple[str, str]]
"""CMake option → its value, and why."""

ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "aarch64"}
"""That releases are built for, as `uname -m` and as people call them."""

AVX512 = ("avx", "avx2", "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")

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

# What a processor with the instruction sets so far is called, the best last.
X86_64_NAMES = {
    "": "x86-64 without SSE4.2",
    "GGML_SSE42": "x86-64 without AVX",
    "GGML_AVX": "x86-64 with AVX",
    "GGML_AVX2": "x86-64 with AVX2",
    "GGML_AVX512": "x86-64 with AVX-512",
    "GGML_AMX_INT8": "x86-64 with AVX-512 and AMX",
}

ARM = "GGML_CPU_ARM_ARCH"

# Which flags of /proc/cpuinfo the parts of GCC's -march need. Armv8.1 brings LSE's atomics, which GCC then uses throughout.
ARM_FLAGS: Mapping[str, tuple[str, ...]] = {
    "armv8-a": ("fp", "asimd"),
    "armv8.2-a": ("fp", "asimd", "atomics", "asimdrdm", "crc32"),
    "dotprod": ("asimddp",),
    "fp16": ("fphp", "asimdhp"),
    "i8mm": ("i8mm",),
    "sve": ("sve",),
    "sve2": ("sve2",),
}
ARM_EXTENSIONS = ("dotprod", "fp16", "i8mm")
"""That ggml has kernels for; without SVE, whose length differs from core to core, and which nobody measured here."""

# Cores by implementer and part (Linux: arch/arm64/include/asm/cputype.h; util-linux: sys-utils/lscpu-arm.c).
ARM_CORES = {
    "0x41 0xd03": "Cortex-A53",
    "0x41 0xd04": "Cortex-A35",
    "0x41 0xd05": "Cortex-A55",
    "0x41 0xd07": "Cortex-A57",
    "0x41 0xd08": "Cortex-A72",
    "0x41 0xd09": "Cortex-A73",
    "0x41 0xd0a": "Cortex-A75",
    "0x41 0xd0b": "Cortex-A76",
    "0x41 0xd0c": "Neoverse-N1",
    "0x41 0xd0d": "Cortex-A77",
    "0x41 0xd40": "Neoverse-V1",
    "0x41 0xd41": "Cortex-A78",
    "0x41 0xd42": "Cortex-A78AE",
    "0x41 0xd44": "Cortex-X1",
    "0x41 0xd49": "Neoverse-N2",
    "0x41 0xd4f": "Neoverse-V2",
    "0x41 0xd80": "Cortex-A520",
    "0x41 0xd81": "Cortex-A720",
    "0x41 0xd85": "Cortex-X925",
    "0x41 0xd87": "Cortex-A725",
    "0xc0 0xac3": "Ampere-1",
}

VARIANTS = "all of the architecture's variants are built, and the best one is loaded at run time"
BESIDE = "the processor's code lies beside the programs, and they load what fits"


def instruction_sets(hardware: Hardware, *, portable: bool) -> Chosen:
    """The options that say what the processor has: every one, since GGML_NATIVE=OFF alone turns AVX2 and its kin on, and a cross
    compiler or SOURCE_DATE_EPOCH turns them off again (ggml/CMakeLists.txt, INS_ENB)."""
    on, off = ("ON", VARIANTS), ("OFF", "one build for just this kind of processor")
    chosen: Chosen = {
        "GGML_BACKEND_DL": ("ON", BESIDE) if portable else off,
        "GGML_CPU_ALL_VARIANTS": on if portable else off,
        "BUILD_SHARED_LIBS": ("ON", BESIDE) if portable else ("OFF", "a release is a few programs that need nothing of each other"),
    }
    if portable:
        chosen |= dict.fromkeys(X86_64, ("OFF", "each variant states its own")) if hardware.architecture == "x86_64" else {}
    elif hardware.architecture == "x86_64":
        chosen |= dict(_x86_64(hardware.cpu_flags))
    else:
        chosen[ARM] = _arm(hardware)
    return chosen


def features(options: Mapping[str, str]) -> tuple[str, ...]:
    """The flags of /proc/cpuinfo that code built with these options uses, whatever the processor; none where it is chosen at run time."""
    if options.get("GGML_CPU_ALL_VARIANTS") == "ON":
        return ()
    used = [flag for option, flags in X86_64.items() if options.get(option) == "ON" for flag in flags]
    used += [flag for part in options.get(ARM, "").split("+") for flag in ARM_FLAGS.get(part, ())]
    return tuple(sorted(set(used)))


def name(hardware: Hardware, options: Mapping[str, str]) -> str:
    """`x86-64 with AVX2`, `Cortex-A76 (armv8.2-a+dotprod+fp16)`, `any x86-64`"""
    if options.get("GGML_CPU_ALL_VARIANTS") == "ON":
        return f"any {ARCHITECTURES[hardware.architecture]}"
    if hardware.architecture == "x86_64":
        return [words for option, words in X86_64_NAMES.items() if not option or options.get(option) == "ON"][-1]
    return f"{' and '.join(cores(hardware)) or 'aarch64'} ({options.get(ARM) or 'the least'})"


def cores(hardware: Hardware) -> tuple[str, ...]:
    """`("Cortex-A76",)`, and nothing of cores without a known name."""
    return tuple(ARM_CORES[part] for part in hardware.cpu_parts if part in ARM_CORES)


def _x86_64(cpu_flags: frozenset[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for option, needed in X86_64.items():
        missing = [flag for flag in needed if flag not in cpu_flags]
        yield option, ("OFF", f"the processor has no {missing[0]}") if missing else ("ON", f"the processor has {needed[-1]}")


def _arm(hardware: Hardware) -> tuple[str, str]:
    """GCC's -march: only what every core has, which is what the kernel lists in Features."""
    core = " and ".join(cores(hardware)) or "the processor"
    base = "armv8.2-a" if hardware.cpu_flags.issuperset(ARM_FLAGS["armv8.2-a"]) else "armv8-a"
    # GCC takes an extension only above the base that first had it; an armv8-a core has none of them.
    found = [each for each in ARM_EXTENSIONS if base != "armv8-a" and hardware.cpu_flags.issuperset(ARM_FLAGS[each])]
    has = " and ".join(flag for part in found for flag in ARM_FLAGS[part][-1:]) or "none of ggml's extensions"
    left = ", and sve is left off: nobody measured it here" if "sve" in hardware.cpu_flags else ""
    return "+".join((base, *found)), f"{core} has {has}{left}"

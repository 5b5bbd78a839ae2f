"""The options that fit a processor, for processors as they really say what they have."""

import pytest

from inventory.errors import PaddockError
from inventory.hardware import Hardware
from roles.llama_cpp.profile import X86_64, profile

# `flags` of /proc/cpuinfo, of what matters here.
CELERON_3865U = "sse sse2 ssse3 cx16 sse4_1 sse4_2 movbe popcnt aes xsave rdrand"
CORE_I5_2400 = "sse sse2 ssse3 cx16 sse4_1 sse4_2 popcnt aes xsave avx"
CORE_I5_3470 = CORE_I5_2400 + " f16c rdrand"
RYZEN_5_3600 = "sse sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand bmi1 avx2 bmi2"
CORE_I9_12900K = RYZEN_5_3600 + " avx_vnni"
XEON_GOLD_6148 = RYZEN_5_3600 + " avx512f avx512dq avx512cd avx512bw avx512vl"
RYZEN_AI_MAX_395 = XEON_GOLD_6148 + " avx_vnni avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni"
XEON_8480 = RYZEN_AI_MAX_395 + " amx_bf16 amx_tile amx_int8"

AVX2 = {"SSE42", "AVX", "F16C", "FMA", "AVX2", "BMI2"}
MACHINES = [
    (CELERON_3865U, {"SSE42"}),
    (CORE_I5_2400, {"SSE42", "AVX"}),
    (CORE_I5_3470, {"SSE42", "AVX", "F16C"}),
    (RYZEN_5_3600, AVX2),
    (CORE_I9_12900K, AVX2 | {"AVX_VNNI"}),
    (XEON_GOLD_6148, AVX2 | {"AVX512"}),
    (RYZEN_AI_MAX_395, AVX2 | {"AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"}),
    (XEON_8480, {name.removeprefix("GGML_") for name in X86_64}),
]


def machine(flags: str, architecture: str = "x86_64") -> Hardware:
    return Hardware(architecture, "a processor", frozenset(flags.split()), cores=2, memory_mib=4096, distribution="debian 13")


@pytest.mark.parametrize(("flags", "expected"), MACHINES)
def test_a_processor_gets_the_instruction_sets_it_has_and_every_other_is_off(flags: str, expected: set[str]) -> None:
    options = dict(profile(machine(flags), {}).options)
    assert {name: options[name] for name in X86_64} == {name: "ON" if name[5:] in expected else "OFF" for name in X86_64}


def test_the_compiler_never_guesses_the_processor() -> None:
    assert dict(profile(machine(XEON_8480), {}).options)["GGML_NATIVE"] == "OFF"


def test_an_extension_without_its_base_is_off() -> None:
    """A virtual machine can show f16c and hide avx; -mf16c would bring AVX instructions."""
    assert dict(profile(machine("sse4_2 f16c fma avx512_vnni"), {}).options)["GGML_F16C"] == "OFF"


def test_nothing_downloads_while_it_builds() -> None:
    options = dict(profile(machine(CELERON_3865U), {}).options)
    assert {options[name] for name in ("LLAMA_USE_PREBUILT_UI", "LLAMA_BUILD_UI", "GGML_CPU_KLEIDIAI")} == {"OFF"}


def test_every_option_has_a_reason() -> None:
    found = profile(machine(RYZEN_5_3600), {"GGML_LTO": True})
    assert [name for name, _ in found.options] == [name for name, why in found.reasons if why]
    assert dict(found.reasons)["GGML_AVX512"] == "the processor has no avx512f"


@pytest.mark.parametrize(("value", "written"), [(False, "OFF"), (True, "ON"), (61, "61"), ("a;b", "a;b")])
def test_the_inventory_has_the_last_word(value: str | bool | int, written: str) -> None:
    found = profile(machine(RYZEN_5_3600), {"GGML_AVX2": value})
    assert dict(found.options)["GGML_AVX2"] == written
    assert dict(found.reasons)["GGML_AVX2"] == "the inventory says so"


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(PaddockError, match="not yet for aarch64"):
        profile(machine("fp asimd", "aarch64"), {})

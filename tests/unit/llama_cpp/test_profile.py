"""The profile of machines as they are, and of processors as they really say what they have."""

from __future__ import annotations

from typing import Any

import pytest

from inventory.hardware import Hardware
from roles.llama_cpp.cpu import ARM, ARM_FLAGS, X86_64
from roles.llama_cpp.cuda import kv_pairs
from roles.llama_cpp.profile import RUNTIME_PACKAGES, Profile, profile
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import PACKAGES, toolchain
from tests.unit.llama_cpp.recorded import FOLDER, MACHINES, PROCESSORS, hardware

ALL = [(name, architecture) for architecture, names in PROCESSORS.items() for name in names]
KNOWN = {line for line in (FOLDER / "cmake-options.txt").read_text().splitlines() if not line.startswith("#")}
CMAKES = {
    *("CMAKE_BUILD_TYPE", "CMAKE_BUILD_WITH_INSTALL_RPATH", "CMAKE_INSTALL_RPATH", "CMAKE_SYSTEM_NAME", "CMAKE_SYSTEM_PROCESSOR"),
    *("CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER", "CMAKE_CUDA_ARCHITECTURES", "CMAKE_CUDA_COMPILER", "CMAKE_CUDA_HOST_COMPILER"),
}


def fitting(name: str, **settings: Any) -> Profile:
    entry = MACHINES[name]
    return profile(hardware(entry), LlamaCppSettings(**(entry.get("settings", {}) | settings)))


def processor(name: str, architecture: str = "x86_64") -> Hardware:
    return hardware({"architecture": architecture, "processor": name})


def instruction_sets(found: Profile) -> str:
    options = dict(found.options)
    if ARM in options:
        return options[ARM]
    return " ".join(name.removeprefix("GGML_") for name in X86_64 if options.get(name) == "ON")


def test_there_are_enough_machines() -> None:
    assert len(MACHINES) >= 25


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_gets_its_profile_and_the_reasons(name: str) -> None:
    expected, found = MACHINES[name]["expect"], fitting(name)
    reasons = dict(found.reasons)
    assert found.name == expected["name"]
    assert reasons["backend"] == expected["because"]
    assert reasons.get("build", "") == expected.get("slow", "")
    assert instruction_sets(found) == expected.get("has", "")
    assert dict(found.options) | expected.get("options", {}) == dict(found.options)
    assert found.devices == tuple(expected.get("devices", "").split())
    assert dict(found.environment) == expected.get("environment", {})
    assert set(found.runtime_packages) == {*RUNTIME_PACKAGES, *expected.get("runtime", "").split()}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_builds_for_itself_with_what_its_distribution_carries(name: str) -> None:
    expected, here = MACHINES[name]["expect"], hardware(MACHINES[name])
    found = toolchain(fitting(name), here, here)
    assert set(found.packages) == {*PACKAGES, *expected["build"].split()}
    assert dict(found.options) == expected.get("tools", {})
    assert not found.triplet


@pytest.mark.parametrize("name", MACHINES)
def test_every_option_is_one_of_llama_cpps_and_has_its_reason(name: str) -> None:
    here, found = hardware(MACHINES[name]), fitting(name)
    options = [option for option, _ in found.options]
    assert options == sorted(options)
    assert [topic for topic, why in found.reasons if why] == [topic for topic, _ in found.reasons if topic.islower()] + options
    assert {*options, *dict(toolchain(found, here, here).options)} <= KNOWN | CMAKES


@pytest.mark.parametrize(("name", "architecture"), ALL)
def test_a_processor_is_built_for_with_nothing_that_it_lacks(name: str, architecture: str) -> None:
    here = processor(name, architecture)
    found = profile(here, LlamaCppSettings())
    assert set(found.cpu_features) <= here.cpu_flags
    on = {option for option, value in found.options if value == "ON"}
    assert [option for option in X86_64 if option in on and not here.cpu_flags.issuperset(X86_64[option])] == []


@pytest.mark.parametrize("name", PROCESSORS["x86_64"])
def test_an_x86_processor_is_built_for_with_all_that_it_has_and_each_is_stated(name: str) -> None:
    options = dict(fitting_processor(name).options)
    flags = processor(name).cpu_flags
    assert {option: options[option] for option in X86_64} == {
        option: "ON" if flags.issuperset(needed) else "OFF" for option, needed in X86_64.items()
    }


def fitting_processor(name: str) -> Profile:
    return profile(processor(name), LlamaCppSettings())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("atom-d525", ""),
        ("celeron-n5105", "SSE42"),
        ("fx-8150", "SSE42 AVX"),
        ("fx-8350", "SSE42 AVX F16C FMA"),
        ("n100", "SSE42 AVX F16C FMA AVX2 BMI2 AVX_VNNI"),
        ("xeon-phi-7210", "SSE42 AVX F16C FMA AVX2 BMI2"),  # of AVX-512 it lacks what ggml uses
    ],
)
def test_processors_with_less_than_their_like(name: str, expected: str) -> None:
    assert instruction_sets(fitting_processor(name)) == expected


def test_the_features_that_a_refusal_can_name_are_those_of_the_options() -> None:
    assert fitting("mining-rig").cpu_features == ("sse4_2",)
    assert fitting("office-box").cpu_features == ("avx", "f16c", "sse4_2")
    assert fitting("raspberry-pi-5").cpu_features == ("asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fp", "fphp")
    assert "avx2" in fitting("mining-rig", options={"GGML_AVX2": True}).cpu_features
    assert fitting("portable-x86").cpu_features == ()


@pytest.mark.parametrize("name", ["ryzen-ai-max-395", "celeron-3865u"])
def test_the_compiler_never_guesses_the_processor_and_nothing_downloads(name: str) -> None:
    options = dict(fitting_processor(name).options)
    guesses_or_downloads = ("GGML_NATIVE", "LLAMA_USE_PREBUILT_UI", "LLAMA_BUILD_UI", "GGML_CPU_KLEIDIAI")
    assert {options[each] for each in guesses_or_downloads} == {"OFF"}


def test_an_extension_without_its_base_is_off() -> None:
    """A virtual machine can show f16c and hide avx; -mf16c would bring AVX instructions."""
    strange = Hardware("x86_64", "strange", frozenset(["sse4_2", "f16c", "fma", "avx512_vnni", "avx512f"]), 2, 4096, "debian 13")
    assert instruction_sets(profile(strange, LlamaCppSettings())) == "SSE42"


def test_an_arm_core_that_hides_an_extension_gets_none_of_it() -> None:
    flags = frozenset(PROCESSORS["aarch64"]["cortex-a76"].split())
    for hidden, march in (("asimddp", "armv8.2-a+fp16"), ("asimdhp", "armv8.2-a+dotprod"), ("atomics", "armv8-a")):
        core = Hardware("aarch64", "a core", flags - {hidden}, 4, 4096, "debian 13", cpu_parts=("0x41 0xd0b",))
        found = profile(core, LlamaCppSettings())
        assert instruction_sets(found) == march
        assert hidden not in found.cpu_features


def test_every_part_of_an_arm_architecture_has_its_flags() -> None:
    parts = {
        part
        for name in PROCESSORS["aarch64"]
        for part in instruction_sets(profile(processor(name, "aarch64"), LlamaCppSettings())).split("+")
    }
    assert parts <= set(ARM_FLAGS)


@pytest.mark.parametrize(("value", "written"), [(False, "OFF"), (True, "ON"), (61, "61"), ("a;b", "a;b")])
def test_the_inventory_has_the_last_word(value: str | bool | int, written: str) -> None:
    found = fitting("strix-halo", options={"GGML_AVX2": value, "GGML_LTO": True})
    assert dict(found.options)["GGML_AVX2"] == written
    assert dict(found.reasons)["GGML_AVX2"] == dict(found.reasons)["GGML_LTO"] == "the inventory says so"


def test_the_inventory_has_the_last_word_on_the_tools_too() -> None:
    here = hardware(MACHINES["mining-rig"])
    found = fitting("mining-rig", options={"CMAKE_CUDA_COMPILER": "/opt/cuda/bin/nvcc"})
    tools = toolchain(found, here, here)
    assert (tools.options, "nvidia-cuda-toolkit" in tools.packages) == ((), False)


def test_flash_attention_is_compiled_for_the_types_that_the_presets_use() -> None:
    presets = [{"cache-type-k": "q8_0", "cache-type-v": "q4_0"}, {"ctk": "q5_1"}, {"ctx-size": 4096}, {"cache-type-k": "iq4_nl"}]
    pairs = kv_pairs(presets)
    assert pairs == ("f16-f16", "q5_1-f16", "q8_0-q4_0")
    found = profile(hardware(MACHINES["mining-rig"]), LlamaCppSettings(), pairs)
    assert dict(found.options)["GGML_CUDA_FA_QUANTS"] == "bf16-bf16,f16-f16,q4_0-q4_0,q5_1-f16,q8_0-q4_0,q8_0-q8_0"
    words = "llama.cpp's own pairs of K/V types, and q5_1-f16, q8_0-q4_0 for the presets; others fall back to f16"
    assert dict(found.reasons)["GGML_CUDA_FA_QUANTS"] == words


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("GGML_AVX", "the processor has no avx"),
        ("GGML_SSE42", "the processor has sse4_2"),
        ("CMAKE_CUDA_ARCHITECTURES", "machine code for 8 × NVIDIA P104-100 (6.1), only"),
        ("GGML_CUDA_FA_QUANTS", "llama.cpp's own pairs of K/V types; others fall back to f16"),
        ("GGML_VULKAN", "the accelerator is another"),
    ],
)
def test_reasons_name_what_was_found(topic: str, words: str) -> None:
    assert dict(fitting("mining-rig").reasons)[topic] == words


def test_reasons_of_arm_name_the_core() -> None:
    assert dict(fitting("raspberry-pi-5").reasons)[ARM] == "Cortex-A76 has asimddp and asimdhp"
    assert dict(fitting("raspberry-pi-4").reasons)[ARM] == "Cortex-A72 has none of ggml's extensions"
    assert dict(fitting("graviton-3").reasons)[ARM].endswith(", and sve is left off: nobody measured it here")


def test_a_portable_arm_build_names_no_architecture_which_llama_cpp_refuses_beside_all_variants() -> None:
    assert ARM not in dict(fitting("portable-arm").options)

"""What is not built, in the words that say what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inventory.errors import PaddockError
from inventory.hardware import Hardware, NvidiaCard
from roles.llama_cpp.profile import profile
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import check_room, jobs, toolchain
from tests.unit.llama_cpp.recorded import MACHINES, hardware, read

REFUSALS = read("refusals.yml")
RIG = hardware(MACHINES["mining-rig"])
PI = hardware(MACHINES["raspberry-pi-5"])
VM = hardware(MACHINES["bare-vm"])


def changed(entry: dict[str, Any]) -> Hardware:
    other = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.get("but", {}).items()}
    return replace(hardware(MACHINES[entry["machine"]]), **other)


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_built_is_refused_in_one_line_that_says_what_to_do(name: str) -> None:
    entry = REFUSALS[name]
    target = changed(entry)
    builder = changed(entry["builder"]) if "builder" in entry else target
    settings = LlamaCppSettings(**entry.get("settings", MACHINES[entry["machine"]].get("settings", {})))
    with pytest.raises(PaddockError) as caught:
        found = profile(target, settings)
        toolchain(found, builder, target)
        check_room(found, builder)
    assert str(caught.value) == entry["words"]


def test_the_vulkan_sdk_can_stand_in_for_an_old_distributions_packages() -> None:
    old = changed(REFUSALS["vulkan-on-bookworm"])
    found = toolchain(profile(old, LlamaCppSettings(options={"CMAKE_PREFIX_PATH": "/opt/vulkan"})), old, old)
    assert "glslc" not in found.packages


def test_a_builder_needs_no_card_and_an_older_distribution_builds_for_a_newer_one() -> None:
    assert "nvidia-cuda-toolkit" in toolchain(profile(RIG, LlamaCppSettings()), VM, RIG).packages
    assert toolchain(profile(VM, LlamaCppSettings()), replace(VM, distribution="debian 12"), VM).triplet == ""


def test_a_cross_build_states_where_it_is_for() -> None:
    target = replace(PI, distribution="debian 13")
    found = toolchain(profile(target, LlamaCppSettings(builder="vm")), VM, target)
    assert found.triplet == "aarch64-linux-gnu"
    assert found.packages == ("ccache", "cmake", "g++-aarch64-linux-gnu", "ninja-build")
    assert dict(found.options) == {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
        "CMAKE_CXX_COMPILER": "aarch64-linux-gnu-g++",
    }


def test_a_portable_cross_build_takes_the_cross_compiler_that_can() -> None:
    target, builder = (replace(each, distribution="ubuntu 24.04") for each in (PI, VM))
    found = toolchain(profile(target, LlamaCppSettings(cpu="portable")), builder, target)
    assert "g++-14-aarch64-linux-gnu" in found.packages
    assert dict(found.options)["CMAKE_CXX_COMPILER"] == "aarch64-linux-gnu-g++-14"


def test_cards_newer_than_the_table_are_left_to_the_compiler() -> None:
    card = NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA R100", "13.0", 300000)
    host = replace(VM, nvidia_cards=(card,), nvidia_driver="600.10", compilers={"nvcc": "14.0", "g++": "14.2.0"})
    found = profile(host, LlamaCppSettings())
    assert dict(found.options)["CMAKE_CUDA_ARCHITECTURES"] == "130-real"
    assert dict(toolchain(found, host, host).options)["CMAKE_CUDA_COMPILER"] == "/usr/local/cuda/bin/nvcc"


def test_what_is_not_known_of_a_builder_is_not_held_against_it() -> None:
    check_room(profile(VM, LlamaCppSettings()), replace(VM, disk_free_mib=0, memory_mib=0))


@pytest.mark.parametrize(
    ("cores", "memory_mib", "wanted", "backend", "expected"),
    [
        (4, 8063, None, "cpu", 4),
        (4, 3796, None, "cpu", 2),
        (4, 906, None, "cpu", 1),
        (16, 8192, None, "cuda", 4),
        (4, 906, 3, "cpu", 3),
    ],
)
def test_fewer_compilers_run_where_memory_is_short(cores: int, memory_mib: int, wanted: int | None, backend: str, expected: int) -> None:
    assert jobs(replace(VM, cores=cores, memory_mib=memory_mib), wanted, backend) == expected

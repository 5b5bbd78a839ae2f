"""What a host says of its machine is understood whole, whatever the host: recorded/ is what the command prints, or would print, on each."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from facts.hardware import HardwareFact
from inventory.hardware import Hardware, NvidiaCard, PciDevice, VulkanDevice, compute_capability, shares_memory, unsupported
from tests.unit.hardware.machines import MACHINES

RECORDED = Path(__file__).parent / "recorded"

SMI_FAILURES = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    " Make sure that the latest NVIDIA driver is installed and running.",
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95",
    "No devices were found",
    "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error",
)
VULKANINFO_FAILURES = (
    "",
    "Cannot create Vulkan instance.\nERROR at ./vulkaninfo/vulkaninfo.h:247:vkCreateInstance failed with ERROR_INCOMPATIBLE_DRIVER",
    "Vulkan Instance Version: 1.3.275\n\nDevices:\n========\nGPU0:\n\tapiVersion         = 1.4.318\nSegmentation fault",
)
JAMMYS_VULKANINFO = """GPU0:
\tapiVersion         = 4206816 (1.3.224)
\tdeviceType         = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU
\tdeviceName         = Card
\tdriverName         = radv"""


def recorded(machine: str) -> list[str]:
    return (RECORDED / f"{machine}.txt").read_text().splitlines()


def read(lines: list[str]) -> Hardware:
    return HardwareFact().process(lines)


def with_section(machine: str, name: str, text: str) -> Hardware:
    """The machine as recorded, but for what it says below `#name`."""
    lines = recorded(machine)
    start = lines.index(f"#{name}") + 1
    end = next((number for number, line in enumerate(lines) if number >= start and line.startswith("#")), len(lines))
    return read([*lines[:start], *text.splitlines(), *lines[end:]])


def test_every_recording_says_what_it_should_be_read_as() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == set(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_recorded_machine_is_read_whole(machine: str) -> None:
    assert read(recorded(machine)) == MACHINES[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_is_the_same_after_it_was_kept(machine: str) -> None:
    kept = TypeAdapter(Hardware).dump_json(MACHINES[machine])
    assert TypeAdapter(Hardware).validate_json(kept) == MACHINES[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_recorded_machine_may_be_a_host(machine: str) -> None:
    assert unsupported(MACHINES[machine]) == ""


@pytest.mark.parametrize("machine", MACHINES)
def test_an_answer_cut_short_anywhere_is_read_as_far_as_it_goes(machine: str) -> None:
    lines = recorded(machine)
    for length in range(len(lines)):
        found = read(lines[:length])
        assert found.architecture in ("", "aarch64", MACHINES[machine].architecture)  # whose kernel it is comes first
        assert {gpu.address for gpu in found.gpus} <= {gpu.address for gpu in MACHINES[machine].gpus}
        assert len(found.nvidia_cards) <= len(MACHINES[machine].nvidia_cards)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "noise", ["", "Segmentation fault", "a, b, c, d, e, f", "GPU-: = : , \t:", '"""', "# ", "0x0300: 9.9.9 = (", "GPU0:"]
)
def test_a_lost_or_garbled_line_stops_nothing(machine: str, noise: str) -> None:
    lines = recorded(machine)
    for number, line in enumerate(lines):
        if not line.startswith("#"):
            found = read([*lines[:number], noise, *lines[number + 1 :]])
            assert found.kernel == MACHINES[machine].kernel or lines[number - 1] == "#kernel"


def test_nothing_at_all_is_a_machine_that_nothing_is_known_of() -> None:
    assert read([]) == Hardware("", "", frozenset(), 0, 0, "")


@pytest.mark.parametrize("words", SMI_FAILURES)
def test_cards_whose_driver_does_not_answer_are_left_to_what_pci_says(words: str) -> None:
    found = with_section("mining-rig", "nvidia-smi", words)
    assert found.nvidia_cards == ()
    assert found.nvidia_driver == "580.95.05"
    assert found.gpus == MACHINES["mining-rig"].gpus


def test_the_driver_is_the_one_that_nvidia_smi_names_where_the_kernel_does_not() -> None:
    assert with_section("mining-rig", "nvidia", "").nvidia_driver == "580.95.05"


def test_an_old_driver_that_cannot_say_the_compute_capability_has_it_from_pci() -> None:
    found = with_section("mining-rig", "nvidia-smi", "GPU-1, 00000000:01:00.0, P104-100, 8119, 470.256.02")
    assert found.nvidia_cards == (NvidiaCard("GPU-1", "0000:01:00.0", "P104-100", "6.1", 8119),)


def test_a_card_that_shares_the_machines_memory_has_none_of_its_own() -> None:
    found = with_section("zen-4-rtx-3090", "nvidia-smi", "GPU-1, 0000000F:01:00.0, NVIDIA GB10, [N/A], 580.95.05, 12.1")
    assert found.nvidia_cards == (NvidiaCard("GPU-1", "000f:01:00.0", "NVIDIA GB10", "12.1", 0),)


@pytest.mark.parametrize(
    ("tree", "card"),
    [
        ("nvidia,tegra194", NvidiaCard("", "", "NVIDIA Xavier", "7.2", 0)),
        ("nvidia,tegra264", NvidiaCard("", "", "NVIDIA Thor", "11.0", 0)),
    ],
)
def test_a_gpu_in_nvidias_own_processor_is_known_by_the_device_tree(tree: str, card: NvidiaCard) -> None:
    found = with_section("jetson-agx-orin", "tegra", tree)
    assert found.nvidia_cards == (card,) and card.shares_memory
    assert with_section("jetson-agx-orin", "tegra", "nvidia,tegra999").nvidia_cards == ()


def test_a_driver_that_speaks_for_the_gpu_goes_before_the_device_tree() -> None:
    said = "GPU-1, 00000000:01:00.0, NVIDIA Thor, [N/A], 580.00, 11.0"
    assert with_section("jetson-agx-orin", "nvidia-smi", said).nvidia_cards == (
        NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA Thor", "11.0", 0),
    )


def test_a_graphics_card_whose_memory_nobody_says_does_not_share_the_machines() -> None:
    assert [each for each, machine in MACHINES.items() if shares_memory(machine)] == ["jetson-agx-orin", "dgx-spark"]
    assert not NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA GeForce RTX 3090", "8.6", 0).shares_memory
    assert not NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA H200", "9.0", 143771).shares_memory


@pytest.mark.parametrize(
    ("machine", "userland", "architecture"),
    [
        ("raspberry-pi-5", "armhf", "armhf"),
        ("raspberry-pi-5", "32 bits", "32 bits"),
        ("raspberry-pi-5", "64 bits", "aarch64"),
        ("raspberry-pi-5", "", "aarch64"),
        ("mining-rig", "i386", "i386"),
    ],
)
def test_a_machine_is_what_its_programs_are_not_what_its_kernel_is(machine: str, userland: str, architecture: str) -> None:
    assert with_section(machine, "userland", userland).architecture == architecture


def test_ubuntu_2204s_vulkaninfo_puts_the_version_in_brackets() -> None:
    assert with_section("zen-4-rtx-3090", "vulkaninfo", JAMMYS_VULKANINFO).vulkan == (VulkanDevice("Card", "radv", "discrete", "1.3.224"),)


@pytest.mark.parametrize("words", VULKANINFO_FAILURES)
def test_a_vulkaninfo_that_fails_lists_no_device(words: str) -> None:
    assert with_section("strix-halo", "vulkaninfo", words).vulkan == ()


def test_two_kinds_of_cores_are_both_there_once() -> None:
    cores = "CPU implementer\t: 0x41\nCPU part\t: 0xd05\nCPU part\t: 0xd0b"  # of an RK3588, without the lines that repeat
    assert with_section("raspberry-pi-5", "cpu", cores).cpu_parts == ("0x41 0xd05", "0x41 0xd0b")
    names = "Model name:     Cortex-A55\n  Model name:   Cortex-A76"
    assert with_section("raspberry-pi-5", "lscpu", names).cpu_model == "Cortex-A55 and Cortex-A76"


def test_what_only_some_cores_have_is_not_the_processors() -> None:
    cores = "flags\t\t: fpu sse4_2 avx avx2\nflags\t\t: fpu sse4_2 avx"
    assert with_section("mining-rig", "cpu", cores).cpu_flags == frozenset({"fpu", "sse4_2", "avx"})


@pytest.mark.parametrize(
    ("vendor", "device", "capability"),
    [
        ("10de", "1b87", "6.1"),  # P104-100
        ("10de", "1c07", "6.1"),  # P106-100
        ("10de", "1db6", "7.0"),  # Tesla V100
        ("10de", "2204", "8.6"),  # GeForce RTX 3090
        ("10de", "2335", "9.0"),  # H200
        ("10de", "2b85", "12.0"),  # GeForce RTX 5090
        ("10de", "2e12", "12.1"),  # GB10
        ("10de", "0611", ""),  # GeForce 8800 GT
        ("1002", "1b87", ""),
    ],
)
def test_the_compute_capability_by_pci_device(vendor: str, device: str, capability: str) -> None:
    assert compute_capability(PciDevice("0000:01:00.0", vendor, device)) == capability

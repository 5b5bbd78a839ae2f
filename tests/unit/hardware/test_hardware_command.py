"""The command itself, really run: on this machine, with nothing optional installed, and on a machine made of files."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from facts.hardware import IDENTITY_SH, HardwareFact
from facts.state import State, probe_script
from inventory.hardware import Hardware, NvidiaCard, PciDevice
from tests.unit.hardware.test_recorded_machines import RECORDED

MINIMAL = (
    *("awk", "cat", "cut", "df", "getconf", "grep", "ls", "lscpu", "nproc"),
    *("readlink", "sed", "sh", "sha256sum", "sort", "timeout", "tr", "uname"),
)
"""What every Debian has: of the packages that are Essential, and of what they need."""

OLD_DRIVER = """\
case $1 in *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;; esac
echo 'GPU-1, 00000000:01:00.0, P104-100, 8119, 470.256.02'
"""
CRASHING = "echo 'Devices:'; echo 'GPU0:'; kill -SEGV $$"

CPUINFO = """\
processor\t: 0
model name\t: A  Processor
flags\t\t: fpu sse4_2

processor\t: 1
model name\t: A  Processor
flags\t\t: fpu sse4_2
"""
PCI_IDS = """\
# a comment
10de  NVIDIA Corporation
\t1b87  GP104 [P104-100]
\t\t1043 8655  a board
8086  Intel
\t1b87  Another
C 03  Display controller
\t00  VGA
"""
FILES = {
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": "MemTotal:        2048000 kB\nMemFree: 1 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\n",
    "sys/module/nvidia/version": "470.256.02\n",
    "sys/devices/virtual/dmi/id/sys_vendor": "Caf\N{LATIN SMALL LETTER E WITH ACUTE}\x01 Machines\n",
    "sys/devices/virtual/dmi/id/product_name": "One\n",
    "etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "usr/share/misc/pci.ids": PCI_IDS,
    "opt/.keep": "",
    "var/lib/.keep": "",
}
DEVICES = {"0000:00:1f.0": "0x060100 0x8086 0x9d4e", "0000:01:00.0": "0x030200 0x10de 0x1b87"}


def run(command: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path} if path else None
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, env=environment)


def answer(command: str, path: str | None = None) -> str:
    done = run(command, path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A PATH with none of the tools that a host may lack."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in MINIMAL:
        found = shutil.which(name)
        assert found, f"{name} is nowhere on this machine"
        (folder / name).symlink_to(found)
    return folder


class FakeMachine:
    """A machine's files below a folder, and the commands that look there."""

    def __init__(self, root: Path, tools: Path) -> None:
        self.root, self.tools = root, tools
        for path, text in FILES.items():
            self.write(path, text)
        for address, ids in DEVICES.items():
            self.plug_in(address, ids)
        self.tool("nvidia-smi", OLD_DRIVER)
        self.tool("vulkaninfo", CRASHING)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def plug_in(self, address: str, ids: str) -> None:
        for name, value in zip(("class", "vendor", "device"), ids.split(), strict=True):
            self.write(f"sys/bus/pci/devices/{address}/{name}", f"{value}\n")

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}")
        (self.tools / name).chmod(0o755)

    def answer(self, command: str) -> str:
        return answer(re.sub(r"(?<=\s)/(?=(?:proc|sys|etc|usr|opt|var)\b)", f"{self.root}/", command), str(self.tools))

    def hardware(self) -> Hardware:
        return HardwareFact().process(self.answer(HardwareFact().command()).splitlines())

    def identity(self) -> str:
        return self.answer(IDENTITY_SH)


@pytest.fixture
def fake(tmp_path: Path, minimal: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine", minimal)


def test_this_machine_is_understood() -> None:
    found = HardwareFact().process(answer(HardwareFact().command()).splitlines())
    assert found.cores > 0 and found.memory_mib > 0 and found.cpu_flags and found.kernel and found.libc and found.disk_free_mib > 0
    assert re.fullmatch(r"[a-z]+ \S*", found.distribution)
    assert re.fullmatch(r"[0-9a-f]{16}", found.identity)


def test_a_host_with_nothing_optional_is_understood(minimal: Path) -> None:
    found = HardwareFact().process(answer(HardwareFact().command(), str(minimal)).splitlines())
    assert found.cores > 0 and found.memory_mib > 0 and found.cpu_flags and found.libc
    assert found.compilers.keys() <= {"nvcc"}  # which is looked for in /usr/local/cuda too
    assert (found.cmake, found.docker, found.vulkan) == ("", "", ())


def test_every_recording_has_the_sections_that_the_command_prints() -> None:
    printed = [line for line in answer(HardwareFact().command()).splitlines() if line.startswith("#")]
    for path in RECORDED.glob("*.txt"):
        assert [line for line in path.read_text().splitlines() if re.match(r"#\S", line)] == printed, path.name


def test_a_machine_is_read_from_its_files_and_its_tools(fake: FakeMachine) -> None:
    found = fake.hardware()
    assert (found.cpu_model, found.memory_mib, found.distribution) == ("A Processor", 2000, "debian 13")
    assert found.cpu_flags == frozenset({"fpu", "sse4_2"})
    assert found.gpus == (PciDevice("0000:01:00.0", "10de", "1b87", "GP104 [P104-100]"),)
    assert found.nvidia_driver == "470.256.02"
    assert found.disk_free_mib > 0


def test_what_amds_driver_says_of_a_cards_memory_is_known_and_makes_another_identity(fake: FakeMachine) -> None:
    before = fake.identity()
    fake.plug_in("0000:03:00.0", "0x030000 0x1002 0x744c")
    plugged = fake.identity()
    fake.write("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", f"{24560 << 20}\n")
    assert {each.address: each.memory_mib for each in fake.hardware().gpus} == {"0000:01:00.0": 0, "0000:03:00.0": 24560}
    assert len({before, plugged, fake.identity()}) == 3
    fake.write("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", "unknown\n")
    assert [each.memory_mib for each in fake.hardware().gpus] == [0, 0]


def test_a_driver_that_does_not_know_compute_capabilities_is_asked_without(fake: FakeMachine) -> None:
    assert fake.hardware().nvidia_cards == (NvidiaCard("GPU-1", "0000:01:00.0", "P104-100", "6.1", 8119),)


def test_a_tool_that_crashes_is_as_good_as_none(fake: FakeMachine) -> None:
    assert fake.hardware().vulkan == ()


def test_a_release_without_a_number_has_its_code_name(fake: FakeMachine) -> None:
    fake.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n')
    assert fake.hardware().distribution == "debian forky"
    fake.write("etc/os-release", "ID=arch\n")
    assert fake.hardware().distribution == "arch"


def test_cores_without_a_name_in_cpuinfo_have_lscpus(fake: FakeMachine) -> None:
    fake.write("proc/cpuinfo", "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n")
    (fake.tools / "lscpu").unlink()
    fake.tool("lscpu", "echo 'Vendor ID:   ARM'; echo '  Model name:   Cortex-A76'")
    found = fake.hardware()
    assert (found.cpu_model, found.cpu_parts) == ("Cortex-A76", ("0x41 0xd0b",))


def test_what_firmware_says_arrives_as_plain_text(fake: FakeMachine) -> None:
    assert fake.hardware().board == "Caf Machines One"


def test_cuda_of_nvidias_own_goes_before_the_distributions(fake: FakeMachine) -> None:
    fake.tool("nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.131'")
    fake.write("usr/local/cuda/bin/nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 12.9, V12.9.86'")
    (fake.root / "usr/local/cuda/bin/nvcc").chmod(0o755)
    assert fake.hardware().compilers == {"nvcc": "12.9.86"}


def test_the_identity_is_the_same_wherever_it_is_asked_for(fake: FakeMachine) -> None:
    alone = fake.identity().strip()
    assert re.fullmatch(r"[0-9a-f]{16}", alone)
    assert fake.hardware().identity == alone
    in_the_probe = f"set -eu; set -f; IFS='\n'\nidentity() {{ {IDENTITY_SH}\n}}\nidentity; printf '%s' \"$IFS\""
    assert fake.answer(in_the_probe) == f"{alone}\n\n"


def test_the_probe_sees_the_identity_that_was_learned() -> None:
    said = subprocess.run(["/bin/sh", "-s"], input=probe_script(()), capture_output=True, text=True, check=True).stdout
    state = State()
    state.command(())
    assert state.process(said.splitlines()).identity == answer(IDENTITY_SH).strip()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/cpuinfo", "flags\t\t: fpu sse4_2 avx\n"),
        ("sys/module/nvidia/version", "580.95.05\n"),
        ("sys/bus/pci/devices/0000:01:00.0/device", "0x2204\n"),
        ("etc/os-release", "ID=debian\nVERSION_ID=14\n"),
        ("sys/bus/pci/devices/0000:00:1f.0/class", "0x030000\n"),
    ],
)
def test_another_machine_has_another_identity(fake: FakeMachine, path: str, text: str) -> None:
    before = fake.identity()
    fake.write(path, text)
    assert fake.identity() != before


@pytest.mark.parametrize("path", ["usr/share/vulkan/icd.d/radeon_icd.json", "etc/vulkan/icd.d/nvidia_icd.json"])
def test_a_vulkan_driver_that_was_added_makes_another_identity(fake: FakeMachine, path: str) -> None:
    before = fake.identity()
    fake.write(path, "{}")
    assert fake.identity() != before


def test_a_vulkan_driver_that_nobody_can_be_asked_about_leaves_the_identity(fake: FakeMachine) -> None:
    (fake.tools / "vulkaninfo").unlink()
    before = fake.identity()
    fake.write("usr/share/vulkan/icd.d/radeon_icd.json", "{}")
    assert fake.identity() == before


def test_another_cuda_makes_another_identity(fake: FakeMachine) -> None:
    seen = {fake.identity()}
    for version in ("12.8", "12.9"):
        fake.write(f"usr/local/cuda-{version}/bin/nvcc", "")
        (fake.root / f"usr/local/cuda-{version}/bin/nvcc").chmod(0o755)
        (fake.root / "usr/local/cuda").unlink(missing_ok=True)
        (fake.root / "usr/local/cuda").symlink_to(f"cuda-{version}")
        seen.add(fake.identity())
    assert len(seen) == 3


def test_a_newer_c_library_makes_another_identity(fake: FakeMachine) -> None:
    before = fake.identity()
    (fake.tools / "getconf").unlink()
    fake.tool("getconf", "echo glibc 9.99")
    assert fake.identity() != before


def test_another_core_makes_another_identity(fake: FakeMachine) -> None:
    (fake.tools / "uname").unlink()
    fake.tool("uname", "echo aarch64")
    fake.write("proc/cpuinfo", "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n")
    before = fake.identity()
    fake.write("proc/cpuinfo", "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n")
    assert fake.identity() != before


@pytest.mark.parametrize(
    ("path", "text"),
    [("proc/meminfo", "MemTotal: 4096000 kB\n"), ("sys/devices/virtual/dmi/id/product_name", "Two\n"), ("usr/share/misc/pci.ids", "")],
)
def test_what_no_release_depends_on_leaves_the_identity(fake: FakeMachine, path: str, text: str) -> None:
    before = fake.identity()
    fake.write(path, text)
    assert fake.identity() == before

"""NVIDIA's driver: which packages, for which cards, and what is refused with the way out."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware, NvidiaCard, PciDevice
from inventory.knowledge import Knowledge
from resources import File, Package, Resource, Service, expand
from roles.gpu.nvidia import DRIVERS, KERNELS
from roles.gpu.plan import SCRIPT, UNIT, plan
from roles.gpu.settings import GpuSettings

HOST = Host(name="pea", address="192.0.2.7")
FLEET = Fleet(name="home", domain="home.example", hosts={"pea": HOST})
TEMPLATE = Path(__file__).parents[3] / "templates" / "gpu" / "nvidia-ready.sh"

P104 = PciDevice("0000:01:00.0", "10de", "1b87", "GP104 [P104-100]")
RTX_3090 = PciDevice("0000:02:00.0", "10de", "2204", "GA102 [GeForce RTX 3090]")
RTX_5090 = PciDevice("0000:03:00.0", "10de", "2b85", "GB202 [GeForce RTX 5090]")
GT_710 = PciDevice("0000:04:00.0", "10de", "128b", "GK208B [GeForce GT 710]")
UNKNOWN = PciDevice("0000:05:00.0", "10de", "ffff", "a card of next year")
RADEON = PciDevice("0000:06:00.0", "1002", "1586", "Strix Halo")

KERNEL = {
    "debian 12": "6.1.0-40-amd64",
    "debian 13": "6.12.48+deb13-amd64",
    "ubuntu 22.04": "5.15.0-157-generic",
    "ubuntu 24.04": "6.8.0-85-generic",
}


def machine(
    *gpus: PciDevice, distribution: str = "debian 13", driver: str = "", kernel: str = "", architecture: str = "x86_64"
) -> Hardware:
    return Hardware(
        architecture,
        "a processor",
        frozenset(),
        cores=2,
        memory_mib=7872,
        distribution=distribution,
        kernel=kernel or KERNEL.get(distribution, ""),
        gpus=gpus,
        nvidia_driver=driver,
    )


def planned(hardware: Hardware | None, driver: str = "distribution", fleet: Fleet = FLEET) -> list[Resource]:
    settings = GpuSettings.model_validate({"nvidia": {"driver": driver}})
    return list(plan(HOST, settings, fleet, Knowledge(hardware={"pea": hardware} if hardware else {})))


def packages(hardware: Hardware, driver: str = "distribution") -> set[str]:
    return {each.name for each in planned(hardware, driver) if isinstance(each, Package)}


def refused(hardware: Hardware, driver: str = "distribution") -> str:
    with pytest.raises(PaddockError) as caught:
        planned(hardware, driver)
    return str(caught.value)


DEBIANS = {"libcuda1", "nvidia-kernel-dkms", "nvidia-smi", "linux-headers-amd64"}
UBUNTUS = {"nvidia-headless-580-server", "nvidia-utils-580-server", "linux-headers-generic"}


@pytest.mark.parametrize(
    ("distribution", "expected"), [("debian 12", DEBIANS), ("debian 13", DEBIANS), ("ubuntu 22.04", UBUNTUS), ("ubuntu 24.04", UBUNTUS)]
)
def test_a_pascal_gets_the_distributions_driver_with_the_headers_that_its_module_is_compiled_for(
    distribution: str, expected: set[str]
) -> None:
    assert packages(machine(P104, distribution=distribution)) == expected


def test_no_distribution_carries_a_driver_that_has_left_pascal_behind() -> None:
    assert {distribution for distribution, driver in DRIVERS.items() if driver.branch > 580} == set()


def test_every_distribution_with_a_driver_has_a_kernel_that_is_known() -> None:
    assert set(DRIVERS) == set(KERNELS)


@pytest.mark.parametrize(
    ("distribution", "kernel", "headers"),
    [
        ("debian 13", "6.12.48+deb13-cloud-amd64", "linux-headers-cloud-amd64"),
        ("debian 12", "6.1.0-40-rt-amd64", "linux-headers-rt-amd64"),
        ("ubuntu 24.04", "6.17.0-35-generic", "linux-headers-generic-hwe-24.04"),
        ("ubuntu 22.04", "6.8.0-85-lowlatency", "linux-headers-lowlatency-hwe-22.04"),
    ],
)
def test_the_headers_are_those_of_the_hosts_kind_of_kernel(distribution: str, kernel: str, headers: str) -> None:
    assert headers in packages(machine(P104, distribution=distribution, kernel=kernel))


@pytest.mark.parametrize(
    ("distribution", "kernel", "name"),
    [
        ("debian 13", "6.14.11-2-pve", "Debian 13"),
        ("debian 12", "6.12.43+deb12-amd64", "Debian 12"),  # out of backports
        ("ubuntu 22.04", "5.15.0-1083-nvidia", "Ubuntu 22.04"),
    ],
)
def test_a_kernel_whose_headers_nobody_knows_is_refused(distribution: str, kernel: str, name: str) -> None:
    assert refused(machine(P104, distribution=distribution, kernel=kernel)) == (
        f"roles.gpu.nvidia.driver: the kernel {kernel} is not {name}'s own, so that its headers are not known: install the driver for it,"
        " and say `driver: installed`"
    )


def test_a_blackwell_gets_the_open_modules_where_the_distribution_knows_it() -> None:
    assert packages(machine(RTX_3090, RTX_5090, distribution="ubuntu 24.04")) == {
        *("nvidia-headless-580-server-open", "nvidia-utils-580-server", "linux-headers-generic")
    }


def test_a_card_that_nobody_knows_is_not_refused() -> None:
    assert packages(machine(UNKNOWN)) == DEBIANS


def test_a_card_too_old_to_compute_does_not_stand_in_the_way_of_others() -> None:
    assert packages(machine(GT_710, P104)) == DEBIANS


def test_a_driver_that_is_there_stays_installed_by_whom_it_was() -> None:
    assert packages(machine(P104, driver="580.95.05"), "installed") == set()


def test_a_package_is_installed_beside_the_headers() -> None:
    assert packages(machine(P104), "nvidia-tesla-535-driver") == {"nvidia-tesla-535-driver", "linux-headers-amd64"}
    assert packages(machine(P104, kernel="6.14.11-2-pve"), "cuda-drivers-580") == {"cuda-drivers-580"}


EIGHT = [replace(P104, address=f"0000:{at:02x}:00.0") for at in range(1, 9)]
CARD = NvidiaCard("GPU-1", "0000:01:00.0", "NVIDIA P104-100", "6.1", 8192)

REFUSALS = [
    (
        machine(RADEON),
        "distribution",
        "roles.gpu.nvidia: this host has no NVIDIA card, but Strix Halo: leave `nvidia` out",
    ),
    (machine(), "installed", "roles.gpu.nvidia: this host has no NVIDIA card: leave `nvidia` out"),
    (
        machine(GT_710),
        "distribution",
        "roles.gpu.nvidia: GK208B [GeForce GT 710] (3.5) is too old for llama.cpp's CUDA, which needs compute capability 5.0: leave"
        " `nvidia` out",
    ),
    (
        machine(*EIGHT, distribution="ubuntu 24.04"),
        "nvidia-headless-590-server",
        "roles.gpu.nvidia.driver: nvidia-headless-590-server is not for this host: driver 590 does not drive 8 × GP104 [P104-100] (6.1),"
        " 580 is the last for cards before Turing: say `driver: distribution`, which is driver 580 here",
    ),
    (
        machine(P104, distribution="ubuntu 24.04"),
        "nvidia-headless-580-server-open",
        "roles.gpu.nvidia.driver: nvidia-headless-580-server-open is not for this host: NVIDIA's open kernel modules do not drive GP104"
        " [P104-100] (6.1): say `driver: distribution`, which is driver 580 here",
    ),
    (
        machine(RTX_5090, distribution="ubuntu 24.04"),
        "nvidia-headless-580-server",
        "roles.gpu.nvidia.driver: nvidia-headless-580-server is not for this host: GB202 [GeForce RTX 5090] (12.0) takes NVIDIA's open"
        " kernel modules: say `driver: distribution`, which is driver 580 here",
    ),
    (
        machine(RTX_5090),
        "distribution",
        "roles.gpu.nvidia.driver: Debian 13 carries driver 550, and driver 550 does not know GB202 [GeForce RTX 5090] (12.0) yet, 570 is"
        " the first that does: install driver 570 or later from NVIDIA, and say `driver: installed`",
    ),
    (
        machine(P104, RTX_5090, distribution="ubuntu 24.04"),
        "distribution",
        "roles.gpu.nvidia.driver: Ubuntu 24.04 carries driver 580, and NVIDIA's open kernel modules do not drive GP104 [P104-100] (6.1):"
        " no driver drives both, so take GP104 [P104-100] (6.1) or GB202 [GeForce RTX 5090] (12.0) out of the machine",
    ),
    (
        machine(P104, driver="580.95.05"),
        "distribution",
        "roles.gpu.nvidia.driver: driver 580.95.05 is installed, which is newer than Debian 13's (550): say `driver: installed` to keep"
        " it, or remove it first",
    ),
    (
        machine(P104),
        "installed",
        "roles.gpu.nvidia.driver: no driver is loaded for GP104 [P104-100] (6.1): install one and restart the machine, or have Paddock do"
        " it with `driver: distribution`",
    ),
    (
        machine(P104, driver="590.48.01"),
        "installed",
        "roles.gpu.nvidia.driver: driver 590.48.01 is installed, and driver 590 does not drive GP104 [P104-100] (6.1), 580 is the last for"
        " cards before Turing: remove it and say `driver: distribution`, which is driver 550 here",
    ),
    (
        machine(P104, driver="590.48.01", distribution="debian 14"),
        "installed",
        "roles.gpu.nvidia.driver: driver 590.48.01 is installed, and driver 590 does not drive GP104 [P104-100] (6.1), 580 is the last for"
        " cards before Turing: install driver 580 from NVIDIA, and say `driver: installed`",
    ),
    (
        replace(machine(P104, driver="470.256.02", distribution="ubuntu 24.04"), nvidia_cards=(CARD,), gpus=(P104, RTX_3090, RTX_5090)),
        "installed",
        "roles.gpu.nvidia.driver: driver 470.256.02 is installed, and driver 470 does not know GB202 [GeForce RTX 5090] (12.0) yet, 570 is"
        " the first that does: no driver drives both, so take NVIDIA P104-100 (6.1) or GB202 [GeForce RTX 5090] (12.0) out of the machine",
    ),
    (
        machine(RTX_3090, architecture="aarch64"),
        "distribution",
        "roles.gpu.nvidia.driver: Paddock knows no driver of Debian 13 for aarch64: install one, and say `driver: installed`",
    ),
    (
        machine(RTX_3090, distribution="ubuntu 26.04"),
        "distribution",
        "roles.gpu.nvidia.driver: Paddock knows no driver of Ubuntu 26.04 for x86_64: install one, and say `driver: installed`",
    ),
]


@pytest.mark.parametrize(("hardware", "driver", "words"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_would_not_drive_the_cards_is_refused_with_the_way_out(hardware: Hardware, driver: str, words: str) -> None:
    assert refused(hardware, driver) == words


@pytest.mark.parametrize("driver", ["latest", "Distribution", "nvidia driver", "nouveau"])
def test_what_is_no_driver_of_nvidias_is_refused_before_anybody_has_looked(driver: str) -> None:
    with pytest.raises(ValidationError, match="neither distribution"):
        GpuSettings.model_validate({"nvidia": {"driver": driver}})


def test_before_anybody_has_looked_no_package_is_named_and_the_rest_is() -> None:
    assert [each.id for each in planned(None)] == [
        "directory:/etc/paddock",
        "directory:/etc/paddock/gpu",
        f"file:{SCRIPT}",
        f"file:/etc/systemd/system/{UNIT}",
        f"service:{UNIT}",
    ]


def test_the_driver_is_ready_before_the_server_starts_and_the_server_does_not_start_without() -> None:
    host = {"name": "pea", "address": "192.0.2.7", "roles": {"llama_cpp": {}, "models": {}, "llama_server": {"models": ["demo"]}}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"pea": host}, "models": {"demo": {}}})
    resources = {each.id: each for _, each in expand(("gpu", each) for each in planned(machine(P104), fleet=fleet))}
    service, unit = resources[f"service:{UNIT}"], resources[f"file:/etc/systemd/system/{UNIT}"]
    assert isinstance(service, Service) and isinstance(unit, File)
    assert {each.id for each in service.restarts} == {unit.id, f"file:{SCRIPT}"}
    lines = str(unit.content).splitlines()
    assert {"Before=llama-server.service", "RequiredBy=llama-server.service", f"ExecStart=/bin/sh {SCRIPT}"} < set(lines)


def ready(tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """The script with programs in place of those that no machine without such a card has."""
    for name, text in programs.items():
        program = tmp_path / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(["/bin/sh", TEMPLATE], env=environment, capture_output=True, text=True, check=False)


LISTS = "echo 'GPU 0: NVIDIA P104-100 (UUID: GPU-1)'"
NOT_FOUND = "echo 'modprobe: FATAL: Module nvidia not found in directory /lib/modules/6.12' >&2; exit 1"
REJECTED = "echo \"modprobe: ERROR: could not insert 'nvidia': Key was rejected by service\" >&2; exit 1"
NO_DEVICE = "echo \"modprobe: ERROR: could not insert 'nvidia': No such device\" >&2; exit 1"
OLD_MODULE = "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18"
NO_UVM = '[ "$1" = nvidia ] || { echo "modprobe: FATAL: no uvm" >&2; exit 1; }'


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="needs a machine without the driver")
@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"modprobe": NOT_FOUND}, "restart the machine, then `paddock up` again; `dkms status` says what was built"),
        ({"modprobe": REJECTED}, "Secure Boot takes signed modules only"),
        ({"modprobe": NO_DEVICE}, "the driver does not load: modprobe: ERROR: could not insert 'nvidia': No such device"),
        ({"modprobe": "", "nvidia_smi": OLD_MODULE}, "the driver was upgraded, and the old one is loaded still: restart the machine"),
        ({"modprobe": "", "nvidia_smi": "echo 'No devices were found'"}, "the driver lists none"),
        ({"modprobe": NO_UVM, "nvidia_smi": LISTS}, "CUDA's part of the driver does not load: modprobe: FATAL: no uvm"),
    ],
    ids=["not-built", "not-signed", "no-device", "upgraded", "lists-none", "without-cuda"],
)
def test_what_is_in_the_way_of_the_driver_is_told_in_the_last_line(tmp_path: Path, programs: dict[str, str], words: str) -> None:
    done = ready(tmp_path, **programs)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("cannot use the NVIDIA cards: ") and words in last


def test_a_driver_that_loads_has_its_devices_made_and_its_cards_listed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = ready(tmp_path, modprobe="", nvidia_smi=LISTS, mknod=f'echo "$@" >{made}')
    assert (done.returncode, done.stdout) == (0, "GPU 0: NVIDIA P104-100 (UUID: GPU-1)\n")
    assert Path("/dev/nvidia-uvm").exists() or made.read_text().startswith("-m 666 /dev/nvidia-uvm c ")

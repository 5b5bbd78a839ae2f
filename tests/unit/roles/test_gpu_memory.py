"""How much memory AMD's graphics may take of the machine's: an option of the kernel's module, and what it takes for that to hold."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware, PciDevice
from inventory.knowledge import Knowledge
from resources import File, Resource, Service
from roles.gpu.plan import MEMORY_SCRIPT, MEMORY_UNIT, MODULE_OPTIONS, plan
from roles.gpu.settings import GpuSettings

HALO = PciDevice("0000:c5:00.0", "1002", "1586", "Strix Halo")
P104 = PciDevice("0000:01:00.0", "10de", "1b87", "GP104 [P104-100]")
MACHINE = Hardware("x86_64", "Ryzen AI Max+ 395", frozenset(), 32, 127900, "debian 13", gpus=(HALO,))


def planned(hardware: Hardware | None = MACHINE, gtt_mib: int = 122880) -> dict[str, Resource]:
    host = Host(name="halo", address="192.0.2.3")
    fleet = Fleet(name="home", domain="home.example", hosts={"halo": host})
    settings = GpuSettings.model_validate({"amd": {"gtt_mib": gtt_mib}})
    return {each.id: each for each in plan(host, settings, fleet, Knowledge(hardware={"halo": hardware} if hardware else {}))}


def test_mebibytes_become_pages_of_4_kib_in_an_option_of_the_module() -> None:
    options = planned()[f"file:{MODULE_OPTIONS}"]
    assert isinstance(options, File)
    assert options.data.decode().splitlines()[1:] == ["options ttm pages_limit=31457280", "options amdttm pages_limit=31457280"]


def test_it_is_what_the_unit_brings_into_the_initial_file_system() -> None:
    service = planned()[f"service:{MEMORY_UNIT}"]
    assert isinstance(service, Service)
    assert f"file:{MODULE_OPTIONS}" in {each.id for each in service.restarts}
    assert service.started != planned(gtt_mib=98304)[f"service:{MEMORY_UNIT}"].desired["started"]


REFUSALS = [
    (replace(MACHINE, gpus=(P104,)), 8192, "roles.gpu.amd: this host has no AMD graphics, but GP104 [P104-100]: leave `amd` out"),
    (replace(MACHINE, gpus=()), 8192, "roles.gpu.amd: this host has no AMD graphics: leave `amd` out"),
    (MACHINE, 126976, "roles.gpu.amd.gtt_mib: 126976 MiB are not to be had of 127900: 125852 at most leave the system 2048"),
]


@pytest.mark.parametrize(("hardware", "gtt_mib", "words"), REFUSALS)
def test_what_the_machine_does_not_have_is_refused(hardware: Hardware, gtt_mib: int, words: str) -> None:
    with pytest.raises(PaddockError) as caught:
        planned(hardware, gtt_mib)
    assert str(caught.value) == words


def test_before_anybody_has_looked_nothing_is_refused() -> None:
    assert f"service:{MEMORY_UNIT}" in planned(None)


class Machine:
    """The planned script where files stand for a kernel of 6.12, and programs for those that write its initial file system."""

    def __init__(self, here: Path, *, loaded: bool = True) -> None:
        self.here = here
        script = planned()[f"file:{MEMORY_SCRIPT}"]
        assert isinstance(script, File)
        text = script.data.decode()
        places = {"/sys/module/ttm": "ttm", "/sys/module/amdttm": "amdttm", "/lib/modules": "modules"}
        for place, name in {**places, MODULE_OPTIONS: "options", "/var/lib/paddock/gpu-memory": "noted"}.items():
            assert place in text
            text = text.replace(place, f"{here}/{name}")
        (here / "memory.sh").write_text(text)
        (here / "options").write_text("options ttm pages_limit=31457280\n")
        (here / "modules" / "6.12").mkdir(parents=True)
        (here / "modules" / "6.12" / "modules.builtin").write_text("kernel/drivers/gpu/drm/drm.ko\n")
        if loaded:
            (here / "ttm").mkdir()
        self.program("uname", "echo 6.12")
        self.program("systemd-run", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
        self.program("update-initramfs", f'echo "$*" >>{here}/calls')

    def program(self, name: str, text: str) -> None:
        (self.here / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.here / name).chmod(0o755)

    def run(self) -> tuple[int, str]:
        command = ["/bin/sh", str(self.here / "memory.sh")]
        environment = {"PATH": f"{self.here}:/usr/bin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout.strip() + done.stderr

    @property
    def calls(self) -> list[str]:
        return (self.here / "calls").read_text().splitlines()


def test_it_is_brought_in_once_for_all_starts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert [machine.run(), machine.run()] == [(0, "")] * 2
    assert machine.calls == ["-u -k all"]


def test_another_limit_is_brought_in_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run()
    (tmp_path / "options").write_text("options ttm pages_limit=1\n")
    machine.run()
    assert machine.calls == ["-u -k all"] * 2


def test_what_could_not_be_brought_in_is_tried_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.program("update-initramfs", f'echo "$*" >>{tmp_path}/calls; echo "No space left on device"; exit 1')
    said = (1, "cannot give the graphics 122880 MiB: No space left on device")
    assert [machine.run(), machine.run()] == [said, said]
    assert len(machine.calls) == 2


def test_a_machine_without_the_driver_is_told_so(tmp_path: Path) -> None:
    assert Machine(tmp_path, loaded=False).run() == (0, "AMD's driver is not loaded")


def test_a_kernel_with_the_module_in_it_is_told_what_it_takes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "modules" / "6.12" / "modules.builtin").write_text("kernel/drivers/gpu/drm/ttm/ttm.ko\n")
    code, words = machine.run()
    assert code == 1
    assert words.endswith("add ttm.pages_limit=31457280 there")

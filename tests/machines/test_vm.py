"""The lab's virtual machines, for real: QEMU, systemd, SSH. They need Linux and root, or QEMU and its images made before."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inventory.fleet import Fleet
from lab import hosts, vm
from lab.engine import LabError
from lab.lab_host import LabHost
from tests.lab_fleet import LabFleet
from tests.machines.conftest import NAME
from tests.share import turn

pytestmark = turn(1, of=5)

FURTHER = f"vmtest{os.getpid()}"


FAILED = "systemctl --failed --plain --no-legend | grep -vE '^(session-|user@|user-runtime-dir@)' || true"
"""The units that failed, but for those of a session that was given up while the machine was slow."""


def listening_on(port: int) -> dict[str, Any]:
    return {"llama_server": {"listen": f"0.0.0.0:{port}", "models": ["chat"]}}


def fleet(port: int = 8180, name: str = NAME) -> Fleet:
    """The machine without AVX, which listens on the port."""
    old = {"name": "old", "address": "192.0.2.10", "lab": {"cpu": "no-avx"}, "roles": listening_on(port)}
    return Fleet.model_validate({"name": name, "domain": "home.example", "hosts": {"old": old}, "models": {"chat": {}}})


@pytest.fixture(scope="module")
def lab(machines: LabFleet) -> dict[str, LabHost]:
    """Two virtual machines and a container, side by side."""
    hosts.up(fleet())
    return {host.name: host for host in hosts.list(NAME)}


def ssh(host: LabHost, command: str, timeout_s: int = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*hosts.ssh_command(host), command], capture_output=True, text=True, timeout=timeout_s)


def over_ssh(host: LabHost, command: str) -> str:
    done = ssh(host, command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def machine(host: str) -> vm.VirtualMachine:
    return next(each for each in vm.machines(NAME) if each.host == host)


def is_at_work(pid: int) -> bool:
    """Not so where it has ended, and where only its entry is left, that nobody has asked after."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until(true: Callable[[], bool], within_s: float = 300) -> bool:
    deadline = time.monotonic() + within_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.3)
    return true()


def cpu_flags(host: LabHost, line: str) -> set[str]:
    return set(over_ssh(host, f"grep -m1 '^{line}' /proc/cpuinfo").partition(":")[2].split())


def test_a_host_without_avx_has_sse42_and_nothing_newer(lab: dict[str, LabHost]) -> None:
    flags = cpu_flags(lab["old"], "flags")
    assert {"sse4_2", "ssse3", "popcnt"} <= flags
    assert not {flag for flag in flags if flag.startswith(("avx", "fma", "f16c", "bmi"))}


def test_an_arm64_host_is_a_cortex_a76_with_its_dot_products(lab: dict[str, LabHost]) -> None:
    assert {"asimd", "asimddp", "asimdhp"} <= cpu_flags(lab["pi"], "Features")
    assert "0xd0b" in over_ssh(lab["pi"], "grep -m1 'CPU part' /proc/cpuinfo")


@pytest.mark.parametrize("host", ["forge", "old", "pi"])
def test_every_host_is_up_under_its_own_name_with_a_running_systemd(lab: dict[str, LabHost], host: str) -> None:
    said = over_ssh(lab[host], f"systemctl is-system-running || true; hostname; id -un; cat /proc/1/comm; {FAILED}").splitlines()
    assert said[0] in ("running", "degraded") and said[1:] == [host, lab[host].user, "systemd"]


def test_packages_can_be_installed(lab: dict[str, LabHost]) -> None:
    assert "Hello, world!" in over_ssh(lab["old"], "apt-get -qq update && apt-get -qq -y install hello >/dev/null 2>&1 && hello")


def test_a_user_of_the_inventory_becomes_root_without_a_password(lab: dict[str, LabHost]) -> None:
    assert over_ssh(lab["pi"], "sudo -n id -un; dpkg --print-architecture").split() == ["root", "arm64"]


def test_the_pinned_key_is_the_one_inside_and_another_is_refused(lab: dict[str, LabHost]) -> None:
    inside = over_ssh(lab["old"], "cat /etc/ssh/ssh_host_ed25519_key.pub")
    assert inside.split()[:2] == lab["old"].host_key.split()
    refused = ssh(replace(lab["old"], host_key=lab["pi"].host_key), "true")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_what_a_role_listens_on_is_reached_from_outside(lab: dict[str, LabHost]) -> None:
    over_ssh(lab["old"], "systemd-run --quiet --unit=answers systemd-socket-activate -l 8180 --inetd -a echo it answers")
    assert until(lambda: over_ssh(lab["old"], "ss -Hltn 'sport = 8180'") != "")
    with socket.create_connection((lab["old"].address, 8180), timeout=60) as connection:
        assert connection.makefile().read() == "it answers\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((lab["pi"].address, 8180), timeout=60)


def test_a_second_up_keeps_the_very_machines_and_forwards_what_the_inventory_now_says(lab: dict[str, LabHost]) -> None:
    over_ssh(lab["old"], "touch /root/kept")
    boot, pid = over_ssh(lab["old"], "cat /proc/sys/kernel/random/boot_id"), (machine("old").place / "pid").read_text()
    second = hosts.up(fleet(8181))
    assert second == {"old": lab["old"]}
    assert over_ssh(second["old"], "ls /root/kept; cat /proc/sys/kernel/random/boot_id") == f"/root/kept\n{boot}"
    assert (machine("old").place / "pid").read_text() == pid
    socket.create_connection((lab["old"].address, 8181), timeout=60).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((lab["old"].address, 8180), timeout=60)


def test_a_port_that_something_else_holds_is_told(lab: dict[str, LabHost], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((lab["old"].address, 8182)):
        hosts.up(fleet(8182))
    assert "old: port 8182 is out of reach from outside (address already in use)" in capsys.readouterr().err


def test_a_host_that_was_switched_off_comes_back_with_its_files_and_its_key(lab: dict[str, LabHost]) -> None:
    over_ssh(lab["old"], "echo kept > /root/on-disk; echo gone > /run/gone")
    ssh(lab["old"], "systemctl poweroff")  # which may end the connection before it has an exit code
    assert until(lambda: not machine("old").runs)
    with pytest.raises(LabError, match="old is exited: bring it up first"):
        hosts.ssh(NAME, "old", ["true"])
    print("lab: starting it again", flush=True)
    back = hosts.up(fleet())["old"]
    assert (back.host_key, back.address) == (lab["old"].host_key, lab["old"].address)
    assert over_ssh(back, f"cat /root/on-disk; [ -e /run/gone ] || echo gone; {FAILED}") == "kept\ngone\n"


@pytest.fixture(scope="module")
def further() -> Iterator[LabHost]:
    """A host of another fleet, which came up while something else answered at its port 22."""
    print("lab: a host of another fleet", flush=True)
    with socket.create_server((vm.free_address(f"{FURTHER}/old", set()), 22)):
        yield hosts.up(fleet(name=FURTHER))["old"]
    hosts.down(FURTHER)


def test_a_host_whose_port_22_is_taken_is_reached_at_another(further: LabHost) -> None:
    assert further.port == 2222
    assert over_ssh(further, "hostname") == "old\n"


def test_a_host_that_does_not_come_up_is_named_with_the_end_of_its_console(further: LabHost) -> None:
    ssh(further, "mv /usr/lib/systemd/systemd /usr/lib/systemd/away; systemctl poweroff")
    assert until(lambda: not next(vm.machines(FURTHER)).runs)
    print("lab: a host without a first process, which tries it some times", flush=True)
    with pytest.raises(LabError, match=r"(?s)lab host old: did not come up \(its kernel panicked: Attempted to kill init!.*console's last"):
        hosts.up(fleet(name=FURTHER))


def test_a_machine_goes_without_a_trace(lab: dict[str, LabHost]) -> None:
    """The last one here: it takes the hosts of all the others."""
    places = [machine(host).place for host in ("old", "pi")]
    pids = [int((place / "pid").read_text()) for place in places]
    assert [host.name for host in hosts.list(NAME)] == ["forge", "old", "pi"]
    assert hosts.down(NAME) == ("forge", "old", "pi")
    assert not [pid for pid in pids if is_at_work(pid)]
    assert not [place for place in (*places, vm.place_of(NAME)) if place.exists()]
    assert hosts.list(NAME) == ()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((lab["old"].address, 22), timeout=60)

"""What of a virtual lab host is decided before QEMU runs, and whose process is ended."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory.fleet import Host
from inventory.schema import LabSettings
from lab import vm
from lab.engine import LabError
from lab.vm import VirtualMachine, free_address, seed
from lab.vm_boot import outside_ports
from lab.vm_hardware import HARDWARE, accelerators, hardware_of, qemu_command
from lab.vm_monitor import forwarded, monitor

KEY = "ssh-ed25519 AAAALAB"

USERNET = """\
Hub 0 (net):
VLAN -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   20       127.0.0.1 48412       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  15     127.77.3.9  2222       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  16     127.77.3.9   443       10.0.2.15   443     0     0
  UDP[236 sec]       17       10.0.2.15 51004        10.0.2.3    53     0     0
"""


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def machine() -> VirtualMachine:
    made = VirtualMachine("home", "ai", "root", "no-avx", "/image", "127.77.3.9", KEY)
    made.place.mkdir(parents=True)
    made.save()
    return made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def command(kind: str, accelerator: str = "tcg") -> str:
    return " ".join(qemu_command(HARDWARE[kind], accelerator, "paddock-home-ai", "/place", "/image"))


def test_a_host_is_a_container_unless_it_asks_for_a_cpu_or_an_architecture() -> None:
    assert hardware_of(LabSettings()) is None
    assert hardware_of(LabSettings(image="debian:sid", suite="sid")) is None
    assert hardware_of(LabSettings(cpu="no-avx")) == HARDWARE["no-avx"]
    assert hardware_of(LabSettings(arch="arm64")) == HARDWARE["arm64"]


@pytest.mark.parametrize(
    "given", [{"cpu": "no-avx", "arch": "arm64"}, {"image": "debian:trixie", "cpu": "no-avx"}, {"suite": "sid", "arch": "arm64"}]
)
def test_a_host_is_one_machine_only(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"takes image and suite .* cpu and arch .* this has .* and "):
        LabSettings.model_validate(given)


def test_each_kind_is_the_cpu_that_it_is_for_whatever_runs_it() -> None:
    assert "qemu-system-x86_64 " in command("no-avx") and " -cpu Westmere,-cx16 " in command("no-avx")
    assert " -cpu Westmere,-cx16 " in command("no-avx", "kvm") and " -accel kvm " in command("no-avx", "kvm")
    assert "qemu-system-aarch64 " in command("arm64") and " -machine virt -cpu cortex-a76 " in command("arm64")


def test_a_cortex_a76_is_always_emulated() -> None:
    assert accelerators(HARDWARE["arm64"]) == ("tcg",)
    assert accelerators(HARDWARE["no-avx"])[-1] == "tcg"


def test_a_machine_outlives_the_command_and_leaves_its_pid_where_it_is_looked_for() -> None:
    assert " -pidfile /place/pid -daemonize " in command("arm64")


def test_no_two_hosts_share_an_address_and_a_host_finds_its_own_again() -> None:
    taken: set[str] = set()
    for number in range(300):
        address = free_address(f"home/{number}", taken)
        assert address not in taken
        assert address.startswith("127.77.")
        assert address.rpartition(".")[2] not in ("0", "255")
        taken.add(address)
    assert free_address("home/1", set()) == free_address("home/1", set())
    assert free_address("home/1", {free_address("home/1", set())}) != free_address("home/1", set())


def test_where_every_address_is_taken_that_is_said() -> None:
    taken = {f"127.77.{high}.{low}" for high in range(256) for low in range(1, 255)}
    with pytest.raises(LabError, match=r"every address of 127\.77\.0\.0/16 is taken"):
        free_address("home/ai", taken)


def test_a_seed_names_the_host_and_only_root_reads_its_keys() -> None:
    files = {"/etc/apt/apt.conf.d/90paddock-lab": 'Acquire::http::Proxy "http://host.docker.internal:3142";\n'}
    with tarfile.open(fileobj=io.BytesIO(seed("ai", "PRIVATE", KEY, files))) as tar:
        found = {member.name: (member.mode, member.uid, (tar.extractfile(member) or io.BytesIO()).read().decode()) for member in tar}
    assert found["etc/hostname"] == (0o644, 0, "ai\n")
    assert found["etc/ssh/ssh_host_ed25519_key"] == (0o600, 0, "PRIVATE")
    assert found["root/.ssh/authorized_keys"][0] == 0o600
    assert "host.docker.internal" in found["etc/apt/apt.conf.d/90paddock-lab"][2]
    assert "10.0.2.2 host.docker.internal\n" in found["etc/hosts"][2], "a proxy on this machine's loopback is reached from inside"


def test_only_ports_that_answer_to_others_are_forwarded() -> None:
    roles = {
        "llama_server": {"listen": "127.0.0.1:8080", "models": ["chat"]},
        "caddy": {"listen": "0.0.0.0:8443", "sites": {"ai.home.example": {"upstream": "ai"}}},
    }
    host = Host.model_validate({"name": "ai", "address": "192.0.2.10", "roles": roles})
    assert 8443 in outside_ports(host)
    assert 8080 not in outside_ports(host)


def test_the_monitor_tells_what_is_forwarded_and_not_what_is_connected() -> None:
    assert forwarded(USERNET) == {2222: 22, 443: 443}


def test_a_machine_that_does_not_run_has_no_address_and_no_key(machine: VirtualMachine) -> None:
    host = vm.lab_host(machine)
    assert (host.state, host.address, host.host_key) == ("exited", "", "")
    assert list(vm.machines()) == [machine]
    with pytest.raises(LabError, match="monitor does not answer"), monitor(machine.place):
        pass


def test_a_process_that_has_got_the_pid_of_one_that_ended_is_left_alone(machine: VirtualMachine, stranger: subprocess.Popen[bytes]) -> None:
    (machine.place / "pid").write_text(f"{stranger.pid}\n")
    assert not machine.runs
    vm.remove(machine)
    assert stranger.poll() is None
    assert list(vm.machines()) == []
    assert not machine.place.exists()


@pytest.mark.parametrize("signals", ["", "trap '' TERM; "], ids=["obeys", "does not listen"])
def test_its_own_process_is_ended(machine: VirtualMachine, monkeypatch: pytest.MonkeyPatch, signals: str) -> None:
    """A shell stands in for QEMU: what makes it ours is how it was called."""
    monkeypatch.setattr(vm, "END_TIMEOUT_S", 1)
    script = f"{signals}echo ready; while :; do sleep 0.1; done"
    call = ["sh", "-c", script, "qemu", "-pidfile", f"{machine.place}/pid", "-daemonize"]
    with subprocess.Popen(call, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (machine.place / "pid").write_text(f"{process.pid}\n")
        try:
            assert machine.runs
            vm.end(machine)
            assert not machine.runs
        finally:
            process.kill()

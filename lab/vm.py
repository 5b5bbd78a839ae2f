"""One virtual lab host: a QEMU that outlives the command that started it, and the directory with all that it is."""

from __future__ import annotations

import hashlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from inventory.fleet import Host
from lab.cache import alone, directory, ssh_key, ssh_public_key
from lab.engine import LabError, installed
from lab.lab_host import LabHost, known_hosts
from lab.mirror import machine_files
from lab.vm_hardware import HARDWARE, VmHardware

NETWORK = "127.77.0.0/16"
"""Loopback addresses of this machine, one a host, so that every host has its own port 22 and its own 443."""

MACHINE_FROM_INSIDE = "10.0.2.2"
"""This machine's loopback, as QEMU's user network shows it to a host: a proxy that listens there is reached."""

EVERYWHERE = "0.0.0.0"

END_TIMEOUT_S = 10


@dataclass(frozen=True)
class VirtualMachine:
    """A virtual host as its directory describes it, whether it runs or not."""

    fleet: str
    host: str
    user: str
    hardware: str
    """A key of HARDWARE."""
    image: str
    address: str
    host_key: str
    port: int = 22
    accelerator: str = ""

    @property
    def name(self) -> str:
        return f"paddock-{self.fleet}-{self.host}"

    @property
    def place(self) -> Path:
        return place_of(self.fleet, self.host)

    @property
    def runs(self) -> bool:
        with self.process() as process:
            return process is not None

    @contextmanager
    def process(self) -> Iterator[int | None]:
        """A descriptor of the machine's own QEMU; None where it does not run.

        A pid may have passed on to a stranger: what the descriptor stands for is looked at first, and cannot change any more.
        """
        try:
            pid = int((self.place / "pid").read_text())
            descriptor = os.pidfd_open(pid)
        except (OSError, ValueError):
            yield None
            return
        try:
            yield descriptor if _is_of(pid, self.place) else None
        finally:
            os.close(descriptor)

    def save(self) -> None:
        part = self.place / "machine.part"
        part.write_text(json.dumps(asdict(self), indent=2))
        part.replace(self.place / "machine.json")


def place_of(fleet: str, host: str = "") -> Path:
    """The directory of a host's machine, or of all of a fleet's."""
    return directory("vm") / fleet / host


def machines(fleet: str | None = None) -> Iterator[VirtualMachine]:
    """The lab's virtual machines, of one fleet or of all, in the order of their names."""
    for record in sorted(directory("vm").glob(f"{fleet or '*'}/*/machine.json")):
        yield VirtualMachine(**json.loads(record.read_text()))


def lab_host(machine: VirtualMachine) -> LabHost:
    """The machine as everything else sees it."""
    hardware, runs = HARDWARE[machine.hardware], machine.runs
    return LabHost(
        fleet=machine.fleet,
        name=machine.host,
        container=machine.name,
        state="running" if runs else "exited",
        user=machine.user,
        ssh_key=ssh_key(),
        address=machine.address if runs else "",
        network=NETWORK if runs else "",
        host_key=machine.host_key if runs else "",
        port=machine.port,
        kind=f"virtual machine ({hardware.words}, {'KVM' if machine.accelerator == 'kvm' else 'emulated'})",
        listens=EVERYWHERE,
    )


def install(hardware: VmHardware) -> None:
    """Installs what runs such a machine, where that is missing: not two at once, apt has one lock. Raises LabError where it cannot."""
    for program, package in ((hardware.qemu, hardware.package), ("qemu-img", "qemu-utils"), ("ssh", "openssh-client")):
        installed(program, package)


def create(fleet: str, host: Host, hardware: VmHardware, image: Path) -> VirtualMachine:
    """Makes a host's machine, which does not run yet, unless another command was quicker."""
    private, public = _new_host_key()
    place = place_of(fleet, host.name)
    with alone(directory() / "vm.lock"):  # two that look for a free address at once would find the same one
        if found := [each for each in machines(fleet) if each.host == host.name]:
            return found[0]
        shutil.rmtree(place, ignore_errors=True)  # of one that was never made whole
        place.mkdir(mode=0o700, parents=True)  # the host's private key will lie here
        address = free_address(f"{fleet}/{host.name}", {each.address for each in machines()})
        machine = VirtualMachine(fleet, host.name, host.user, hardware.key, str(image), address, public)
        (place / "seed.tar").write_bytes(seed(host.name, private, public, machine_files()))
        disk = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image / "disk.ext4"), "-F", "raw", str(place / "disk.qcow2")]
        done = subprocess.run(disk, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"qemu-img made no disk: {done.stderr.strip()}")
        machine.save()
    return machine


def remove(machine: VirtualMachine) -> None:
    """Ends the machine and takes away all that it was."""
    end(machine)
    shutil.rmtree(machine.place, ignore_errors=True)
    known_hosts(machine.name).unlink(missing_ok=True)
    with suppress(OSError):  # the fleet has further ones
        machine.place.parent.rmdir()


def end(machine: VirtualMachine) -> None:
    """Ends the machine's QEMU as pulling the plug would, and waits until it has gone."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        with machine.process() as process:
            if process is None:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal_)
            select.select([process], [], [], END_TIMEOUT_S)  # readable once it has ended
    if machine.runs:
        raise LabError(f"{machine.name} does not end: its pid is in {machine.place}/pid")


def free_address(name: str, taken: Collection[str]) -> str:
    """An address of NETWORK: the name's own, or the next one after it that is not taken."""
    network = ip_network(NETWORK)
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
    for step in range(network.num_addresses):
        address = network[(first + step) % network.num_addresses]
        if 0 < int(address) % 256 < 255 and str(address) not in taken:
            return str(address)
    raise LabError(f"every address of {NETWORK} is taken: `paddock lab list` shows by what")


def seed(name: str, private: str, public: str, files: Mapping[str, str]) -> bytes:
    """A tar of what is this one host's: its name, its SSH host key, the lab's key to let in, and the way to packages.

    The host key is made here and not read from the network, so what is pinned is what is inside.
    """
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n{MACHINE_FROM_INSIDE} host.docker.internal\n"
    plain = {**files, "/etc/hostname": f"{name}\n", "/etc/hosts": hosts, "/etc/ssh/ssh_host_ed25519_key.pub": f"{public}\n"}
    secret = {"/etc/ssh/ssh_host_ed25519_key": private, "/root/.ssh/authorized_keys": f"{ssh_public_key()}\n"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, mode in ((plain, 0o644), (secret, 0o600)):
            for path, text in each.items():
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(text.encode()), mode
                tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _new_host_key() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _is_of(pid: int, place: Path) -> bool:
    """Whether the process is the QEMU whose files lie there. One that has ended and was not reaped yet has no command line."""
    try:
        return f"\0-pidfile\0{place}/pid\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False

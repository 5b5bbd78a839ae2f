"""The machines that the lab makes with QEMU, because there the CPU matters."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from inventory.schema import LabSettings

MEMORY_MIB = 2048
CPUS = 2

NOT_STARTED = (
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount"),
    *("sys-fs-fuse-connections.mount", "modprobe@drm.service", "modprobe@efi_pstore.service"),
)
"""What an emulated machine takes seconds to start, and nobody here uses."""

KERNEL_OPTIONS = " ".join(["panic=5 mitigations=off systemd.condition_needs_update=no", *(f"systemd.mask={each}" for each in NOT_STARTED)])
"""A kernel that panicked reboots, in the hope of better luck. Guards against a CPU's leaks are dear to emulate, and guard nothing here. The
image's caches are as new as its packages."""


@dataclass(frozen=True)
class VmHardware:
    """One kind of machine."""

    key: str
    words: str
    architecture: str
    """As Debian calls it."""
    machine: str
    """What the kernel calls the architecture, and QEMU its program."""
    board: str
    cpu: str
    console: str
    kernel: str
    """Debian's package of it."""
    package: str
    """Debian's package of QEMU for it."""

    @property
    def qemu(self) -> str:
        return f"qemu-system-{self.machine}"

    @property
    def is_native(self) -> bool:
        return platform.machine() == self.machine


HARDWARE = {
    "no-avx": VmHardware(
        key="no-avx",
        words="x86-64 without AVX",
        architecture="amd64",
        machine="x86_64",
        board="q35",
        # The last of Intel's servers before AVX: SSE4.2, no BMI, no FMA, no F16C. Without cmpxchg16b: after one that QEMU 7.2 emulated, a
        # kernel died of a double fault with an address in its flags; a kernel that has it uses it at every allocation.
        cpu="Westmere,-cx16",
        console="ttyS0",
        kernel="linux-image-cloud-amd64",
        package="qemu-system-x86",
    ),
    "arm64": VmHardware(
        key="arm64",
        words="arm64, Cortex-A76",
        architecture="arm64",
        machine="aarch64",
        board="virt",
        cpu="cortex-a76",  # the Raspberry Pi 5's
        console="ttyAMA0",
        kernel="linux-image-cloud-arm64",
        package="qemu-system-arm",
    ),
}


def hardware_of(settings: LabSettings) -> VmHardware | None:
    """The machine that a host of the inventory asks for; None where a container will do."""
    key = settings.cpu or settings.arch
    return HARDWARE[key] if key else None


def accelerators(hardware: VmHardware) -> tuple[str, ...]:
    """What may run it here, the quickest first. KVM takes a CPU of the same architecture, and none passes for a Cortex-A76.

    Under KVM a hidden instruction that needs no state of its own (BMI2) still runs; AVX, FMA and F16C fault, for AVX is never enabled.
    """
    kvm = hardware.is_native and hardware.key == "no-avx" and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return ("kvm", "tcg") if kvm else ("tcg",)


def qemu_command(hardware: VmHardware, accelerator: str, name: str, place: str, image: str) -> Sequence[str]:
    """How QEMU is called: detached, with its pid, its monitor and its console's log in `place`, and a kernel and an initrd in `image`.

    The forwarded ports are told to it later, through the monitor, where each one's failure can be told.
    """
    devices = ("virtio-rng-pci", "virtio-net-pci,netdev=net,romfile=", "virtio-blk-pci,drive=disk,serial=disk")
    return (
        hardware.qemu,
        *("-name", name, "-pidfile", f"{place}/pid", "-daemonize"),
        *("-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi" if accelerator == "tcg" else accelerator),
        *("-machine", hardware.board, "-cpu", hardware.cpu, "-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", f"{image}/kernel", "-initrd", f"{image}/initrd"),
        *("-append", f"console={hardware.console} root=LABEL=paddock-lab rw {KERNEL_OPTIONS} init=/usr/local/sbin/paddock-lab-init"),
        # Nothing here has to outlive the machine that this runs on: a flush is for what does.
        *("-drive", "id=disk,if=none,format=qcow2,cache=unsafe,file=disk.qcow2"),
        *("-drive", "id=seed,if=none,format=raw,readonly=on,file=seed.tar"),
        *("-netdev", "user,id=net,ipv6=off"),
        *(word for device in (*devices, "virtio-blk-pci,drive=seed,serial=seed") for word in ("-device", device)),
        *("-serial", "file:console.log"),
        *("-qmp", "unix:monitor,server=on,wait=off"),
    )

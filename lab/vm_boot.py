"""How a virtual lab host comes up: its QEMU, its forwarded ports, its sshd, its systemd."""

from __future__ import annotations

import shlex
import socket
import subprocess
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from inventory.fleet import Host
from lab.cache import ssh_public_key
from lab.engine import LabError, say
from lab.lab_host import ADMIT, TERMINAL_CONTROL, accounts, ssh_command, sshd_answers
from lab.vm import VirtualMachine, end, lab_host
from lab.vm_hardware import HARDWARE, accelerators, qemu_command
from lab.vm_monitor import Monitor, monitor
from roles.role import address_of, port_of

SSH_PORTS = (22, 2222)
"""The second for machines where the first is not to be had: their own sshd may hold it on every address, or it takes root."""

BOOT_TIMEOUT_S = 600
"""An emulated host takes half a minute where it is alone, and many times that on a busy machine."""

KVM_TIMEOUT_S = 30
SSH_TIMEOUT_S = 120
TOLD_EVERY_S = 30
CONSOLE_LINES = 8

STATE = "systemctl reset-failed 'session-*.scope' 2>/dev/null; systemctl is-system-running 2>&1 || true"
"""It leaves with 1 for every state but `running`. A way in that was given up while the machine was slow is no failure of the machine."""

KERNEL_IS_UP = "Run /init as init process"
PANIC = "Kernel panic - not syncing: "
PANICS = 3
"""As often as that is no accident."""


def boot(machine: VirtualMachine, host: Host) -> tuple[VirtualMachine, str]:
    """Starts the machine if it does not run, forwards the ports of the host's roles, lets the user in, and waits for systemd and sshd.

    Gives the machine as it then is, and systemd's state with the units that failed. Raises LabError with the console's last lines where it
    does not come up.
    """
    machine = replace(machine if machine.runs else _started(machine), user=host.user)
    with monitor(machine.place) as qemu:
        machine = replace(machine, port=_ssh_port(machine, qemu))
        machine.save()
        _forward(machine, qemu, outside_ports(host))
    return machine, _waited_for(machine, accounts(host))


def outside_ports(host: Host) -> frozenset[int]:
    """The ports of its roles that answer to others than the host itself."""
    endpoints = [endpoint for settings in host.carried.values() for endpoint in settings.endpoints()]
    return frozenset(port_of(each) for each in endpoints if not ip_address(address_of(each)).is_loopback)


def _started(machine: VirtualMachine) -> VirtualMachine:
    """The machine with its QEMU at work: with KVM where that works, not only where it is there."""
    hardware = HARDWARE[machine.hardware]
    problem = "nothing accelerates it"
    for accelerator in accelerators(hardware):
        command = qemu_command(hardware, accelerator, machine.name, str(machine.place), machine.image)
        done = subprocess.run(command, cwd=machine.place, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        problem = done.stderr.strip() if done.returncode else _kvm_problem(machine) if accelerator == "kvm" else ""
        if not problem:
            return replace(machine, accelerator=accelerator)
        if accelerator == "kvm":
            say(f"{machine.host}: KVM is here, but does not work ({problem}): this machine is emulated instead")
            end(machine)
    raise LabError(f"{hardware.qemu} does not start: {problem}")


def _kvm_problem(machine: VirtualMachine) -> str:
    """Why KVM is of no use, or nothing. On some machines /dev/kvm opens, and then cannot run what a kernel begins with."""
    deadline = time.monotonic() + KVM_TIMEOUT_S
    while time.monotonic() < deadline:
        if KERNEL_IS_UP in _console(machine):
            return ""
        try:
            with monitor(machine.place) as qemu:
                status = qemu.status
        except LabError as error:
            return str(error)
        if status != "running":
            return f"the CPU stopped with {status}"
        time.sleep(0.3)
    return f"no kernel came up within {KVM_TIMEOUT_S} s"


def _ssh_port(machine: VirtualMachine, qemu: Monitor) -> int:
    """The port at which its sshd is reached, forwarded if it is not yet."""
    there = qemu.forwarded()
    if found := [port for port in SSH_PORTS if there.get(port) == 22]:
        return found[0]
    problems = []
    for port in SSH_PORTS:
        problem = _forwarded(machine, qemu, port, 22)
        if not problem:
            return port
        problems.append(f"port {port}: {problem}")
    raise LabError(f"its sshd cannot be reached at {machine.address}: {'; '.join(problems)}")


def _forward(machine: VirtualMachine, qemu: Monitor, wanted: frozenset[int]) -> None:
    """Forwards these ports, and no others but SSH's; one that cannot be is told."""
    there = set(qemu.forwarded()) - {machine.port}
    for port in there - wanted:
        qemu.stop_forwarding(machine.address, port)
    for port in sorted(wanted - there - {machine.port}):
        if problem := _forwarded(machine, qemu, port, port):
            say(f"{machine.host}: port {port} is out of reach from outside ({problem})")


def _forwarded(machine: VirtualMachine, qemu: Monitor, port: int, inside: int) -> str:
    """What kept the port from being forwarded, or nothing."""
    with socket.socket() as probe:  # QEMU itself does not say why
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((machine.address, port))
        except PermissionError:
            return f"it takes root, or `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return qemu.forward(machine.address, port, inside)


def _waited_for(machine: VirtualMachine, own: tuple[str, ...]) -> str:
    """systemd's state once sshd answers and the boot is over, with the units that failed. `own` are accounts that are to be there."""
    state, admitted, begin = "its sshd does not answer", False, time.monotonic()
    told = begin
    while machine.runs and time.monotonic() < begin + BOOT_TIMEOUT_S and _console(machine).count(PANIC) < PANICS:
        if sshd_answers(machine.address, machine.port):
            try:
                if not admitted:
                    _inside(machine, shlex.join(["sh", "-s", "--", machine.user, ssh_public_key(), *own]), ADMIT)
                    admitted = True
                state = _inside(machine, STATE)
                if state in ("running", "degraded"):
                    failed = _inside(machine, "systemctl --failed --plain --no-legend").splitlines()
                    return f"{state} ({', '.join(line.split()[0] for line in failed)} failed)" if failed else state
            except LabError as error:
                state = str(error)
        if time.monotonic() > told + TOLD_EVERY_S:
            told = time.monotonic()
            last = next(reversed(_console(machine).splitlines()), "nothing yet")
            say(f"{machine.host}: not up after {told - begin:.0f} s ({state}); its console: {last}")
        time.sleep(0.5)
    if not machine.runs:
        state = "QEMU has ended"
    elif PANIC in (console := _console(machine)):
        state = f"its kernel panicked: {console.rpartition(PANIC)[2].partition(chr(10))[0]}"
    tail = "\n".join(f"  {line}" for line in _console(machine).splitlines()[-CONSOLE_LINES:])
    raise LabError(f"did not come up ({state}); the console's last lines, of {machine.place}/console.log:\n{tail}")


def _inside(machine: VirtualMachine, command: str, stdin: str = "") -> str:
    """What a command prints that root runs there, over SSH."""
    ssh = ssh_command(replace(lab_host(machine), user="root"))
    try:
        done = subprocess.run([*ssh, command], input=stdin, capture_output=True, text=True, timeout=SSH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise LabError(f"no answer over SSH within {SSH_TIMEOUT_S} s") from None
    if done.returncode:
        raise LabError(f"over SSH: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.strip()


def _console(machine: VirtualMachine) -> str:
    """What the machine has said so far, without empty lines and a terminal's own signs."""
    try:
        text = Path(machine.place / "console.log").read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(line for line in TERMINAL_CONTROL.sub("", text).splitlines() if line.strip())

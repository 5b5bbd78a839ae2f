"""The lab hosts of a fleet: up, down, listed, and a shell in one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from inventory.fleet import Fleet, Host
from lab import vm
from lab.container import address_of, boot, containers, create
from lab.engine import Engine, LabError, NoEngine, engine, reach, say
from lab.image import image
from lab.lab_host import LabHost, known_hosts, ssh_command, suite_of
from lab.overlay import overlay
from lab.vm_boot import boot as boot_machine
from lab.vm_hardware import hardware_of
from lab.vm_image import vm_image

__all__ = ["LabHost", "down", "in_lab", "list", "ssh", "ssh_command", "up"]


@dataclass(frozen=True)
class _Lab:
    """What there is before a fleet comes up, and what its hosts are made from."""

    fleet: str
    docker: Engine | None
    images: dict[str, str]
    """The lab's own container images, by suite: those that hosts take."""
    containers: dict[str, LabHost]
    machines: dict[str, vm.VirtualMachine]
    machine_images: dict[str, Path]


def up(fleet: Fleet, only: frozenset[str] = frozenset()) -> dict[str, LabHost]:
    """Makes the fleet's lab hosts run, those that `only` leaves, and gives them by name.

    What runs is kept, what was stopped is started, what is missing is made. Raises LabError with a line for each host that did not come up.
    """
    wanted = tuple(fleet.limited(only))
    hardware = {each.key: each for each in map(hardware_of, (host.lab for host in wanted)) if each}
    for each in hardware.values():
        vm.install(each)
    docker = engine() if any(hardware_of(host.lab) is None for host in wanted) else _running_engine()
    own = {suite_of(host) for host in wanted if hardware_of(host.lab) is None and host.lab.image is None}
    lab = _Lab(
        fleet=fleet.name,
        docker=docker,
        images={suite: image(docker, suite) for suite in sorted(own)} if docker else {},
        containers={host.name: host for host in containers(docker, fleet.name)} if docker else {},
        machines={machine.host: machine for machine in vm.machines(fleet.name)},
        machine_images={key: vm_image(each) for key, each in hardware.items()},
    )
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = tuple(pool.map(lambda host: _up(lab, host), wanted))
    if any(problems):
        raise LabError("\n".join(filter(None, problems)))
    names = {host.name for host in wanted}
    return {host.name: host for host in list(fleet.name) if host.name in names}


def in_lab(fleet: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet on its lab hosts that run, and a sentence for each thing that was replaced. Raises LabError where one is missing."""
    return overlay(fleet, {host.name: host for host in list(fleet.name)})


def down(fleet: str) -> tuple[str, ...]:
    """Takes a fleet's lab hosts away, with all that was in them, and gives their names."""
    docker = _running_engine()
    found = list(fleet)
    if docker and (theirs := [host.container for host in containers(docker, fleet)]):
        docker.run("rm", "--force", "--volumes", *theirs)
    for machine in vm.machines(fleet):
        vm.remove(machine)
    shutil.rmtree(vm.place_of(fleet), ignore_errors=True)  # of a machine that was never made whole
    for host in found:
        known_hosts(host.container).unlink(missing_ok=True)
        say(f"{host.name}: gone")
    return tuple(host.name for host in found)


def list(fleet: str | None = None) -> tuple[LabHost, ...]:
    """The lab hosts of a fleet, or of all, in the order of their names; no containers where no engine runs."""
    docker = _running_engine()
    found = [*(containers(docker, fleet) if docker else ()), *map(vm.lab_host, vm.machines(fleet))]
    return tuple(sorted(found, key=lambda host: host.container))


def ssh(fleet: str, host: str, argv: Sequence[str] = ()) -> int:
    """Runs a command on a lab host over SSH, as `ssh` itself would, or a login shell, on this terminal, and gives its exit status.

    Raises LabError where there is no such host, or it does not run.
    """
    found = {each.name: each for each in list(fleet)}
    if host not in found:
        raise LabError(f"fleet {fleet} has no lab host {host} (there is {', '.join(found) or 'none'}): bring it up first")
    if not found[host].host_key:
        raise LabError(f"{host} is {found[host].state}: bring it up first")
    if not shutil.which("ssh"):
        raise LabError("no ssh is installed here: install openssh-client")
    return subprocess.call([*ssh_command(found[host]), *([" ".join(argv)] if argv else [])])


def _up(lab: _Lab, host: Host) -> str:
    """What went wrong, or nothing."""
    begin = time.monotonic()
    try:
        ready = _container_up(lab, host) if hardware_of(host.lab) is None else _machine_up(lab, host)
    except LabError as error:
        return f"lab host {host.name}: {error}"
    say(f"{host.name}: ready at {ready}, {time.monotonic() - begin:.0f} s")
    return ""


def _container_up(lab: _Lab, host: Host) -> str:
    """The container's address, and its systemd's state."""
    docker, before, suite = lab.docker, lab.containers.get(host.name), suite_of(host)
    assert docker
    if machine := lab.machines.get(host.name):
        say(f"{host.name}: was a virtual machine, the inventory asks for a container: created again")
        vm.remove(machine)
    if before and before.suite != suite:
        say(f"{host.name}: was {before.suite}, the inventory asks for {suite}: created again")
    if before and (before.suite != suite or before.state == "created"):  # or an earlier run ended halfway
        docker.run("rm", "--force", "--volumes", before.container)
        before = None
    if before is None or before.state != "running":
        say(f"{host.name}: starting")
    container = before.container if before else create(docker, lab.fleet, host.name, host.user, host.lab.image or lab.images[suite], suite)
    state = boot(docker, container, host)
    return f"{address_of(docker, container)}, systemd {state}"


def _machine_up(lab: _Lab, host: Host) -> str:
    """The machine's address, its systemd's state, and what it is."""
    hardware, machine = hardware_of(host.lab), lab.machines.get(host.name)
    assert hardware
    if lab.docker and (container := lab.containers.get(host.name)):
        say(f"{host.name}: was a container, the inventory asks for a virtual machine: created again")
        lab.docker.run("rm", "--force", "--volumes", container.container)
    if machine and machine.hardware != hardware.key:
        say(f"{host.name}: was another virtual machine, is to be {hardware.words}: made anew")
        vm.remove(machine)
        machine = None
    if machine is None or not machine.runs:
        say(f"{host.name}: starting a virtual machine ({hardware.words})")
    machine, state = boot_machine(machine or vm.create(lab.fleet, host, hardware, lab.machine_images[hardware.key]), host)
    ready = vm.lab_host(machine)
    where = ready.address if ready.port == 22 else f"{ready.address} port {ready.port}"
    return f"{where}, systemd {state}, {ready.kind}"


def _running_engine() -> Engine | None:
    try:
        return reach()
    except NoEngine:
        return None

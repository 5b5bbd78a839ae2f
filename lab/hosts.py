"""The lab hosts of a fleet: up, down, listed, and a shell in one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inventory.schema import Fleet, Host
from lab.cache import directory
from lab.container import LabHost, address_of, boot, containers, create
from lab.engine import Engine, LabError, NoEngine, engine, reach, say
from lab.image import image
from lab.overlay import overlay


def up(fleet: Fleet, only: frozenset[str] = frozenset()) -> dict[str, LabHost]:
    """Makes the fleet's lab hosts run, those that `only` leaves, and gives them by name.

    What runs is kept, what was stopped is started, what is missing is made. Raises LabError with a line for each host that did not come up.
    """
    docker = engine()
    wanted = tuple(fleet.limited(only))
    own = image(docker) if any(host.lab.image is None for host in wanted) else ""
    before = {host.name: host for host in containers(docker, fleet.name)}
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = tuple(pool.map(lambda host: _up(docker, fleet.name, host, own, before.get(host.name)), wanted))
    if any(problems):
        raise LabError("\n".join(filter(None, problems)))
    names = {host.name for host in wanted}
    return {host.name: host for host in containers(docker, fleet.name) if host.name in names}


def in_lab(fleet: Fleet) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet on its lab hosts that run, and a sentence for each thing that was replaced. Raises LabError where one is missing."""
    return overlay(fleet, {host.name: host for host in list(fleet.name)})


def down(fleet: str) -> tuple[str, ...]:
    """Takes a fleet's lab hosts away, with all that was in them, and gives their names."""
    docker = _running_engine()
    found = tuple(containers(docker, fleet)) if docker else ()
    if docker and found:
        docker.run("rm", "--force", "--volumes", *(host.container for host in found))
    for host in found:
        _known_hosts(host).unlink(missing_ok=True)
        say(f"{host.name}: gone")
    return tuple(host.name for host in found)


def list(fleet: str | None = None) -> tuple[LabHost, ...]:
    """The lab hosts of a fleet, or of all; none where no engine runs."""
    docker = _running_engine()
    return tuple(containers(docker, fleet)) if docker else ()


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


def ssh_command(host: LabHost) -> tuple[str, ...]:
    """How `ssh` is called for a lab host: with the lab's key, and with the host's key pinned."""
    known = _known_hosts(host)
    known.write_text(f"{host.container} {host.host_key}\n")
    options = {
        "HostKeyAlias": host.container,
        "UserKnownHostsFile": str(known),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
    }
    return (
        "ssh",
        "-F",
        "none",
        "-i",
        str(host.ssh_key),
        *(f"-o{name}={value}" for name, value in options.items()),
        f"{host.user}@{host.address}",
    )


def _up(docker: Engine, fleet: str, host: Host, own: str, before: LabHost | None) -> str:
    """What went wrong, or nothing."""
    begin = time.monotonic()
    try:
        if before and before.state == "created":  # an earlier run ended halfway
            docker.run("rm", "--force", "--volumes", before.container)
            before = None
        if before is None or before.state != "running":
            say(f"{host.name}: starting")
        container = before.container if before else create(docker, fleet, host.name, host.user, host.lab.image or own)
        state = boot(docker, container, host.user)
    except LabError as error:
        return f"lab host {host.name}: {error}"
    say(f"{host.name}: ready at {address_of(docker, container)}, systemd {state}, {time.monotonic() - begin:.0f} s")
    return ""


def _running_engine() -> Engine | None:
    try:
        return reach()
    except NoEngine:
        return None


def _known_hosts(host: LabHost) -> Path:
    return directory("known_hosts") / host.container

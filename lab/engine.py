"""The Docker engine that the lab's containers run on: the one that answers, or one that is installed and started here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import PaddockError
from lab.cache import directory

PROGRAMS = (("dockerd", "docker.io"), ("docker", "docker-cli"), ("iptables", "iptables"))
"""What an engine needs, and the package of Debian and Ubuntu that has it; docker.io brought the client with it until Debian 12."""

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

CLIENT_TOO_NEW = re.compile(r"client version \S+ is too new\. Maximum supported API version is (\S+)")

START_TIMEOUT_S = 60
GIVEN_WAY_S = 5


class LabError(PaddockError):
    """The lab cannot give what was asked of it."""


class NoEngine(LabError):
    """No Docker engine answers."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers; `command` is how its client is called."""

    command: tuple[str, ...]

    def run(self, *argv: str, stdin: bytes | None = None) -> str:
        """What `docker ARGV` prints. Raises LabError with the engine's own words."""
        done = subprocess.run([*self.command, *argv], input=stdin, stdin=None if stdin else subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise LabError(f"docker {argv[0]}: {_reason(done.stderr.decode(errors='replace'))}")
        return done.stdout.decode(errors="replace").strip()

    def has_image(self, name: str) -> bool:
        return bool(self.run("images", "--quiet", name))


def engine() -> Engine:
    """The engine that answers; where there is none, it is installed and started, and that is said on standard error.

    Raises LabError where that is not possible: not Linux, no right to, DOCKER_HOST names another, or it does not come up.
    """
    if sys.platform != "linux":
        raise LabError("the lab runs on Linux only: its hosts are reached at their containers' own addresses")
    try:
        return reach()
    except NoEngine as error:
        if os.environ.get("DOCKER_HOST"):
            raise LabError(f"DOCKER_HOST is {os.environ['DOCKER_HOST']}, and there {error}: start that engine, or unset it") from None
    for program, package in PROGRAMS:
        installed(program, package)
    return start(directory())


def reach(client: Sequence[str] = ("docker",), prefix: Sequence[str] = ()) -> Engine:
    """The engine that answers this client, called with sudo and with the engine's own version of the protocol where it takes that.

    Raises NoEngine where none answers, LabError where one does that we may not use.
    """
    if not shutil.which(client[0]):
        raise NoEngine("no Docker client is installed")
    command = (*prefix, *client)
    answer = subprocess.run([*command, "version", "--format", "{{.Server.APIVersion}}"], capture_output=True, text=True)
    if answer.returncode == 0:
        return Engine(command)
    if "permission denied" in answer.stderr and not prefix and os.geteuid() != 0:
        return reach(client, as_root("speak to the Docker engine (or membership of the group docker)"))
    if (newest := CLIENT_TOO_NEW.search(answer.stderr)) and "env" not in prefix:
        return reach(client, (*prefix, "env", f"DOCKER_API_VERSION={newest[1]}"))
    raise NoEngine(f"no Docker engine answers ({_last_line(answer.stderr)})")


def installed(program: str, package: str) -> None:
    """Installs a program's package where the program is missing. Raises LabError where it cannot."""
    if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}"):
        return
    if not shutil.which("apt-get"):
        raise LabError(f"{program} is missing, and this system has no apt-get: install it, then run this again")
    root = as_root(f"install {package}")
    say(f"lab: installing {package} (for {program})")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "apt-get"]
    subprocess.run([*apt, "-qq", "update"], capture_output=True)
    done = subprocess.run([*apt, "-qq", "-y", "--no-install-recommends", "install", package], capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"apt-get install {package}: {_last_line(done.stderr)}")


def as_root(purpose: str) -> tuple[str, ...]:
    """What goes before a command that needs root. Raises LabError where neither root nor sudo without a password is to be had."""
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ("sudo", "-n")
    raise LabError(f"to {purpose}, root or sudo without a password is needed")


def start(place: Path, flags: Sequence[str] = (), client: Sequence[str] = ("docker",)) -> Engine:
    """Starts the engine and waits until it answers: systemd's where systemd runs, else by hand, with pid and log in `place`.

    Raises LabError with the last lines of its log where it does not come up.
    """
    try:
        return reach(client)  # the package may have started it
    except NoEngine:
        root = as_root("start the Docker engine")
    if Path("/run/systemd/system").is_dir() and not flags:
        say("lab: starting the Docker engine (systemctl start docker)")
        done = subprocess.run([*root, "systemctl", "start", "docker"], capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"systemctl start docker: {_last_line(done.stderr)}: see journalctl -u docker")
        return reach(client)

    log, pid = place / "dockerd.log", place / "dockerd.pid"
    with log.open("wb") as output:
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"}
        command = [*root, "dockerd", *flags]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)
    pid.write_text(f"{process.pid}\n")
    say(f"lab: starting the Docker engine (dockerd; pid in {pid}, log in {log})")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return reach(client)
        except NoEngine:
            if process.poll() is not None:  # unless it gave way to one that the package is just starting
                deadline = min(deadline, time.monotonic() + GIVEN_WAY_S)
            time.sleep(0.3)
    end = "ended" if process.poll() is not None else f"did not answer within {START_TIMEOUT_S} s"
    tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-5:])
    raise LabError(f"dockerd {end}: see {log}\n{tail}")


def say(line: str) -> None:
    """A line on standard error, whole even where several hosts speak at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _reason(text: str) -> str:
    """The engine's reason, after which the client may still print what came of it."""
    return next(
        (line.partition(": ")[2] for line in text.splitlines() if line.startswith("Error response from daemon: ")), _last_line(text)
    )


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")

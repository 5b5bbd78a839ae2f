"""A fleet of lab hosts for a test: an inventory of its own, its hosts, and the `paddock` command as a user would call it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inventory.load import load
from lab import hosts as lab_hosts
from lab.container import LabHost
from lab.hosts import ssh_command

ROOT = Path(__file__).parent.parent


@dataclass
class LabFleet:
    """`inventory` may be written anew between runs; its hosts stay. `name` is the fleet's, its state lies below `directory`."""

    name: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yml"

    @property
    def state(self) -> Path:
        return self.directory / ".paddock" / f"{self.name}-lab"

    def write(self, text: str) -> None:
        self.inventory.write_text(text)

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", "-i", str(self.inventory), verb, *arguments]

    def paddock(self, verb: str, *arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """The command's result, whatever its exit code. Nobody is at the terminal."""
        return subprocess.run(
            self.command(verb, *arguments),
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """The command at work, in a process group of its own, so that a test can end it."""
        return subprocess.Popen(
            self.command(verb, *arguments),
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`paddock up --lab --yes`, which must succeed."""
        done = self.paddock("up", "--lab", "--yes", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def host(self, name: str) -> LabHost:
        return next(each for each in lab_hosts.list(self.name) if each.name == name)

    def on(self, host: str, script: str, *, check: bool = True) -> str:
        """What a shell script prints on a host, over the lab's own way in, not Paddock's."""
        command = [*ssh_command(self.host(host)), f"sh -c {shlex.quote(script)}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def lab_fleet(name: str, directory: Path, text: str) -> Iterator[LabFleet]:
    """The fleet with its lab hosts up; they are gone afterwards, unless PADDOCK_KEEP_LAB is set."""
    fleet = LabFleet(name, directory)
    fleet.write(text)
    print(f"lab: making the hosts of {name}", flush=True)
    lab_hosts.up(load(fleet.inventory))
    try:
        yield fleet
    finally:
        if not os.environ.get("PADDOCK_KEEP_LAB"):
            lab_hosts.down(name)

"""A fleet of lab hosts for a test: an inventory of its own, its hosts, and the `paddock` command as a user would call it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from pydantic import TypeAdapter
from ruamel.yaml import YAML

from control.llama_cpp.artifacts import Artifacts
from control.state.fleet import FleetState
from inventory.knowledge import Artifact
from inventory.load import load
from lab import hosts as lab_hosts
from lab.container import LabHost
from lab.engine import engine
from lab.hosts import ssh_command
from lab.image import with_packages
from lab.mirror import SUITE

ROOT = Path(__file__).parent.parent

TIMEOUT_S = 600
UP_TIMEOUT_S = 3000
"""All of llama.cpp may have to be compiled, while another layer compiles too."""

OURS = "'caddy.service' 'paddock-*.service' 'llama-server*.service'"

COMPILES_WITH = ("ccache", "cmake", "g++", "libgomp1", "ninja-build")
"""What a host installs to compile llama.cpp. It takes half of a first deploy."""

RECORD = TypeAdapter(Artifact)

RELEASES = os.environ.get("PADDOCK_RELEASES", "")
"""Where fleets leave what they have compiled for others, of this run of `make test` and of later ones; nothing where none does."""


@dataclass
class LabFleet:
    """`inventory` may be written anew between runs; its hosts stay. `name` is the fleet's, its state lies below `directory`, the command
    is that of `product`."""

    name: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    product: Path = ROOT

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.yml"

    @property
    def state(self) -> Path:
        return self.directory / ".paddock" / f"{self.name}-lab"

    def write(self, text: str) -> None:
        self.inventory.write_text(unwatched(text))

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", "-i", str(self.inventory), verb, *arguments]

    def paddock(self, verb: str, *arguments: str, timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
        """The command's result, whatever its exit code. Nobody is at the terminal."""
        done = subprocess.run(
            self.command(verb, *arguments),
            cwd=self.product,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s or (UP_TIMEOUT_S if verb == "up" else TIMEOUT_S),
        )
        if verb == "up" and done.returncode == 0:
            _keep_releases(self.directory)
        return done

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """The command at work, in a process group of its own, so that a test can end it."""
        return subprocess.Popen(
            self.command(verb, *arguments),
            cwd=self.product,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.product), **self.environment}

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

    def exposed(self, host: str) -> str:
        """Those of Paddock's services on a host that its systemd counts as more exposed than 2.0, a line each."""
        script = f"""for unit in $(systemctl list-unit-files -q --no-legend {OURS} | cut -d' ' -f1); do
            systemd-analyze security --no-pager --threshold=20 "$unit" >/tmp/exposure || tail -n 1 /tmp/exposure
            echo "$unit" >>/tmp/looked-at
        done
        [ -s /tmp/looked-at ]; rm /tmp/looked-at /tmp/exposure"""
        return self.on(host, f"set -e; {script}")


@contextmanager
def lab_fleet(name: str, directory: Path, text: str, *, ready: bool = False) -> Iterator[LabFleet]:
    """The fleet with its lab hosts up; they are gone afterwards, unless PADDOCK_KEEP_LAB is set.

    Hosts are bare. Where `ready`, they have a compiler, and the fleet has what others have compiled: for tests of what comes after a first
    deploy.
    """
    fleet = LabFleet(name, directory)
    fleet.write(text)
    print(f"lab: making the hosts of {name}", flush=True)
    kept = bool(os.environ.get("PADDOCK_KEEP_LAB"))
    if not kept and engine():
        lab_hosts.down(name)  # what a run that was killed has left
    if ready:
        give_releases(fleet)
        fleet.write(with_compilers(text))
    lab_hosts.up(load(fleet.inventory))
    fleet.write(text)
    if kept:
        _disown(fleet)
    try:
        yield fleet
    finally:
        if not kept:
            lab_hosts.down(name)


def _disown(fleet: LabFleet) -> None:
    """Hosts that an earlier run has kept are another state's, which is gone."""
    for host in lab_hosts.list(fleet.name):
        fleet.on(host.name, "$([ $(id -u) = 0 ] || echo sudo) sed -i '/^fleet /d' /var/lib/paddock/manifest", check=False)


def unwatched(text: str) -> str:
    """The inventory, YAML or JSON, with nothing watched after it was started and no speed measured, where it says nothing of that: most
    tests are of other things."""
    for key, value in (("settle", "0"), ("upgrade", '{"floor": "0%"}')):
        if key not in text:
            text = text.replace("{", f'{{"{key}": {value}, ', 1) if text.startswith("{") else f"{text.rstrip()}\n{key}: {value}\n"
    return text


def with_compilers(text: str) -> str:
    """The inventory, with lab hosts that have a compiler from the beginning."""
    yaml, written = YAML(), StringIO()
    inventory = yaml.load(text)
    for host in inventory["hosts"].values():
        suite = host.get("lab", {}).get("suite", SUITE)
        host["lab"] = {"image": with_packages(engine(), COMPILES_WITH, suite), "suite": suite}
    yaml.dump(inventory, written)
    return written.getvalue()


def _keep_releases(directory: Path) -> None:
    """Each release in a directory of its own, whole or not at all: two streams may have compiled the same, and not to the same bytes."""
    for described in directory.glob(".paddock/*/artifacts/*.json") if RELEASES else ():
        kept = Path(RELEASES, described.stem)
        if kept.exists():
            continue
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=kept.parent, prefix="."))
        for file in (described, described.with_suffix(".tar.gz")):
            shutil.copy(file, part)
        try:
            part.rename(kept)
        except OSError:  # another stream was quicker
            shutil.rmtree(part)


def give_releases(fleet: LabFleet) -> None:
    """To the state of the fleet in the lab, and to that of an inventory which says itself where lab hosts are: as if built there."""
    for name in (f"{fleet.name}-lab", fleet.name):
        artifacts = Artifacts(FleetState.of(fleet.inventory, name))
        for kept in Path(RELEASES).glob("[!.]*/*.json") if RELEASES else ():
            described = RECORD.validate_json(kept.read_bytes())
            archive = artifacts.state.directory("artifacts") / ".given"
            shutil.copy(kept.with_name(f"{described.name}.tar.gz"), archive)
            artifacts.keep(archive, described)

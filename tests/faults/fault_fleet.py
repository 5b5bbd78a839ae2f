"""Two lab hosts, `one` and `two`, that things are done to; an inventory that says where they are as one of real machines would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inventory.load import load
from lab import hosts as lab_hosts
from lab.container import LabHost
from lab.engine import engine
from tests.lab_fleet import ROOT, LabFleet, lab_fleet

NAME = "fault"
HOSTS = ("one", "two")
LANDS = "/etc/caddy/paddock/sites.caddy"
"""A file of each host's that is taken away, so that there is something to do."""

RESET = "kill -9 $(ss -Htnp state established 'sport = :22' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)"
"""Ends whoever serves an SSH connection: the other side hears of it at once."""

Settings = Mapping[str, Any]


SLOW_START = "/etc/systemd/system/caddy.service.d/99-slow.conf"
"""Somebody's own drop-in, which the inventory accepts: with it Caddy takes its time to start."""


@dataclass(frozen=True)
class Told:
    """What `paddock up` printed, and how it ended."""

    code: int
    out: str
    err: str

    def why(self, host: str) -> list[str]:
        """The line that says why the host failed, and those below it."""
        lines = self.err.splitlines()
        start = next((number for number, line in enumerate(lines) if line.startswith(f"{host}: ")), len(lines))
        more = next((number for number, line in enumerate(lines[start + 1 :], start + 1) if not line.startswith("    ")), len(lines))
        return lines[start:more]

    def changed(self, host: str) -> str:
        """`3 changed`, `0 changed`, `FAILED`: the summary's word."""
        row = re.search(rf"^{host} +(\d+ changed|FAILED) ", self.out, re.MULTILINE)
        assert row, self.out + self.err
        return row[1]


@dataclass(frozen=True)
class FaultFleet:
    """Every `up` is asked for what it may never do: print a traceback."""

    lab: LabFleet
    hosts: dict[str, LabHost]
    docker: tuple[str, ...]

    def describe(self, *, models: Settings | None = None, **hosts: Settings) -> None:
        """The inventory: both hosts, with what a test says of one over it. A role of None is left out."""
        entries = {}
        for name in HOSTS:
            host = self.hosts[name]
            said = dict(hosts.get(name, {}))
            base = {"time": "elsewhere", "packages": ["hello"], "accepted_units": [SLOW_START]}
            roles = {"base": base, "caddy": {"shared": True}, **said.pop("roles", {})}
            here = {"address": host.address, "ssh_key": str(host.ssh_key), "host_key": host.host_key}
            entries[name] = {**here, **said, "roles": {role: settings for role, settings in roles.items() if settings is not None}}
            entries[name] = {key: value for key, value in entries[name].items() if value is not None}
        everything = {"fleet": NAME, "domain": "home.example", "hosts": entries, "models": dict(models or {}), "clients": {"laptop": {}}}
        self.lab.write(json.dumps(everything))  # JSON is YAML

    @property
    def state(self) -> Path:
        return self.lab.directory / ".paddock" / NAME

    def up(self, *arguments: str) -> Told:
        with self.at_work(*arguments) as process:
            return self.told(process)

    @contextmanager
    def at_work(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`up` at work, in a process group of its own; `told` waits for its end."""
        process = subprocess.Popen(
            self.lab.command("up", "--yes", "--no-verify", *arguments),
            cwd=ROOT,
            env=self.lab.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def told(self, process: subprocess.Popen[str]) -> Told:
        out, err = process.communicate(timeout=900)
        assert "Traceback" not in out + err, out + err
        print(err, end="", flush=True)
        return Told(process.returncode, out, err)

    def disturb(self) -> None:
        """Both hosts then have something to do."""
        for host in HOSTS:
            self.inside(host, f"rm -f {LANDS}")

    def up_fails(self, words: str, *arguments: str, host: str = "one", others: bool = True) -> Told:
        """`up` ends with 1, one line begins with `HOST: WORDS`, a regular expression, and the other host is as declared."""
        return self.failed(self.up(*arguments), words, host=host, others=others)

    def failed(self, told: Told, words: str, *, host: str = "one", others: bool = True) -> Told:
        assert told.code == 1, told.out + told.err
        why = told.why(host)
        assert why, told.out + told.err
        assert re.fullmatch(f"{host}: {words}", why[0]), "\n".join(why)
        assert told.changed(host) == "FAILED"
        if others:
            (other,) = set(HOSTS) - {host}
            assert re.fullmatch(r"\d+ changed", told.changed(other)), told.out + told.err
            assert not told.why(other)
            assert self.inside(other, f"ls {LANDS}; systemctl is-active caddy").split() == [LANDS, "active"]
        return told

    def heals(self) -> None:
        """With the cause out of the world the next `up` converges, and the one after finds nothing to do."""
        again = self.up()
        assert again.code == 0, again.out + again.err
        third = self.up()
        assert (third.code, *map(third.changed, HOSTS)) == (0, "0 changed", "0 changed"), third.out + third.err

    def inside(self, host: str, script: str, *, check: bool = True) -> str:
        """What a script prints on the host, past its network and its sshd."""
        command = [*self.docker, "exec", "--interactive", self.hosts[host].container, "sh", "-euc", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def restart(self, host: str, *, gently: bool) -> None:
        """Its machine ends, at once or as systemd ends it, and is there again."""
        container = self.hosts[host].container
        if gently:
            self.inside(host, "systemctl reboot", check=False)
        else:
            subprocess.run([*self.docker, "kill", container], check=True, capture_output=True)
        subprocess.run([*self.docker, "wait", container], check=True, capture_output=True, timeout=120)
        lab_hosts.up(load(self.lab.inventory), frozenset({host}))
        self.hosts[host] = self.lab.host(host)

    def wait_until(self, host: str, true: str) -> None:
        """Until the script succeeds there."""
        self.inside(host, f"for i in $(seq 600); do if {true}; then exit; fi; sleep 0.1; done; exit 1")

    def forget_host_keys(self) -> None:
        (self.state / "known_hosts").unlink()

    @contextmanager
    def meanwhile(self, host: str, cause: str, undo: str) -> Iterator[None]:
        """The fault is there inside the block, and gone after it."""
        self.inside(host, cause)
        try:
            yield
        finally:
            self.inside(host, undo)


@contextmanager
def fault_fleet(directory: Path) -> Iterator[FaultFleet]:
    bare = {name: {"address": f"192.0.2.{number}", "roles": {"base": {}}} for number, name in enumerate(HOSTS, 1)}
    with lab_fleet(NAME, directory, json.dumps({"fleet": NAME, "domain": "home.example", "hosts": bare}), ready=True) as lab:
        fleet = FaultFleet(lab, {name: lab.host(name) for name in HOSTS}, engine().command)
        fleet.describe()
        first = fleet.up()
        assert first.code == 0, first.out + first.err
        yield fleet

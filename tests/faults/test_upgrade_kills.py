"""`paddock upgrade` may die, or lose its network, at any moment: every host serves all the same, and the next run ends well."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired
from typing import Literal

import pytest

from resources.lease import LASTS_S
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import PART, PARTS, WHOLE, chance, spread, turn

pytestmark = turn(0, of=5)

NAME = f"upgradekill{PART if PARTS > 1 else ''}"
"""One of its own for each part of a soak: they may run at the same time."""

HOSTS = ("one", "two")

FLEET = f"""
fleet: {NAME}
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {{time: elsewhere}}
      llama_cpp: {{ui: false, builder: one}}
      models:
      llama_server: {{models: [demo], models_max: 1}}
hosts:
  one: {{address: 192.0.2.10}}
  two: {{address: 192.0.2.11}}
models: {{demo: {{preset: {{ctx-size: 512}}}}}}
"""
RELEASES = (FLEET, FLEET.replace("ui: false", "ui: false, options: {GGML_CPU_REPACK: off}"))

UPGRADE = ("upgrade", "--lab", "--yes", "--no-measure", "--soak", "1")

CURRENT = "basename $(readlink /opt/paddock/llama.cpp/current)"
ASK = """curl -sS --max-time 30 127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \
  -d '{"model": "demo", "prompt": "Hello", "max_tokens": 8}' | grep -o text_completion || true"""

FORGET = "cd /opt/paddock/llama.cpp/releases; ls -A | grep -vxF $(basename $(readlink ../current)) | xargs -r rm -r"
"""A host then has but the release that it serves."""

WAITS = "[ ! -e /var/lib/paddock/guard/armed ] || [ -e /var/lib/paddock/guard/over ] || echo waits"

LISTED = r"""find /run /tmp /var/tmp /root /etc /var/lib/paddock /opt/paddock /var/cache/paddock -xdev \( \
    -path /run/systemd -o -path /run/user -o -path /run/log -o -name 'systemd-private-*' -o -path '/opt/paddock/llama.cpp/releases/*/*' \
    -o -path /var/lib/paddock/history -o -path /var/lib/paddock/evidence \) -prune -o -print
  ls /run/systemd/transient | sed '/^session-/d; s/^/transient /'
  systemctl list-units --all --plain --no-legend 'paddock-*' 'llama-*' | tr -s ' ' | cut -d ' ' -f 1-4"""
"""What may be left on a host: files and units. A history and what was collected of a switch that was taken back stay on purpose."""

LEASE = "cut -f 1,3 /run/paddock/lease; cut -d . -f 1 /proc/uptime"
"""Whose it is, and until when it holds; what time it is."""

CUT = "ip route show default >/run/cut; ip link set eth0 down"
HEALED = "ip link set eth0 up; ip route add $(cat /run/cut); rm /run/cut"

DEADLINE_S = 90
"""A host hears of its run more often than that, also where the machine has a lot to do."""

BACK_S = 60
"""A server that is restarted answers within this time."""

NOTICED_S = 600
"""So long a run whose network is away may take to notice it everywhere."""

STALE_S = 7200

MOMENTS = 50

How = Literal["killed", "cut off"]
HOWS = ("killed", "cut off", "at a moment")


@dataclass
class Upgrades:
    """Two hosts that go to and fro between two releases, whose `names` these are. Each has but the one that it serves before it begins.

    Of an undisturbed upgrade `boundaries` are in words, it takes so many `seconds`, and `listed` is what it leaves, by host.
    """

    fleet: LabFleet
    at: int = 0
    names: list[str] = field(default_factory=lambda: ["", ""])
    boundaries: list[str] = field(default_factory=list)
    seconds: float = 0.0
    listed: dict[str, set[str]] = field(default_factory=dict)

    @property
    def counted(self) -> Path:
        return self.fleet.directory / "counted"

    def on(self, host: str, script: str) -> str:
        """Past its network and its sshd."""
        return inside(f"paddock-{self.fleet.name}-{host}", script)

    def start(self, boundary: int = 0) -> Popen[str]:
        """An upgrade to the other release than they serve that stops at this boundary, 0 for none."""
        if "" not in self.names:
            (serves,) = self.current()
            self.at = self.names.index(serves)
        for host in HOSTS:
            self.on(host, FORGET)
        self.at = 1 - self.at
        self.fleet.write(RELEASES[self.at])
        stops = ("-m", "tests.faults.boundaries", str(self.counted), str(boundary), str(DEADLINE_S))
        command = [sys.executable, *stops, "-i", str(self.fleet.inventory), *UPGRADE]
        at_work = {"cwd": self.fleet.product, "env": self.fleet.env, "stdin": DEVNULL, "stdout": PIPE, "stderr": STDOUT, "text": True}
        return Popen(command, start_new_session=True, **at_work)  # type: ignore[call-overload, no-any-return]

    def undisturbed(self) -> str:
        """What such an upgrade says."""
        began, process = time.monotonic(), self.start()
        said, _ = process.communicate(timeout=3000)
        assert process.returncode == 0, said
        self.boundaries, self.seconds = self.counted.read_text().splitlines(), time.monotonic() - began
        print(f"undisturbed: {len(self.boundaries)} boundaries, {self.seconds:.0f} s", flush=True)
        (self.names[self.at],) = self.current()
        self.converged()
        self.listed = {host: self.found(host) for host in HOSTS}
        return str(said)

    def converged(self) -> None:
        said = self.fleet.up("--no-verify").stdout
        assert all(re.search(rf"^{host} +0 changed", said, re.MULTILINE) for host in HOSTS), said

    def found(self, host: str) -> set[str]:
        """What lies on a host, and here in the state."""
        here = (each.relative_to(self.fleet.state) for each in self.fleet.state.rglob("*"))
        lies = [*self.on(host, LISTED).splitlines(), *(str(each) for each in here if each.parts[0] not in ("history", "evidence"))]
        return {each.replace(self.names[self.at], "AFTER").replace(self.names[1 - self.at], "BEFORE") for each in lies}

    def serve(self) -> bool:
        return all("text_completion" in self.on(host, ASK) for host in HOSTS)

    def current(self) -> set[str]:
        return {self.on(host, CURRENT).strip() for host in HOSTS}

    def ends_at_boundaries(self, how: How) -> None:
        count = len(self.boundaries)
        for number in spread(f"boundaries of an upgrade, {how}", range(1, count + 1), 1):
            process = self.start(number)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self.goes_on(f"{how} at boundary {number} of {count}, {self.boundaries[number - 1]}", how, process)

    def ends_at_moments(self) -> None:
        for number in spread("moments of an upgrade", range(MOMENTS), 1):
            at = (number + chance(f"moment {number} of an upgrade").random()) / MOMENTS * self.seconds
            process = self.start()
            time.sleep(at)
            self.goes_on(f"killed after {at:.1f} s of {self.seconds:.0f}", "killed", process)

    def goes_on(self, what: str, how: How, process: Popen[str]) -> None:
        """The run comes to its end, and nobody but the hosts does anything, now and then for so long that they take it back. Then another
        run."""
        print(f"upgrade {what}", flush=True)
        (self.kill if how == "killed" else self.cut_off)(process)
        self.serve_soon(what)
        if chance(f"who comes after an upgrade {what}").random() < 1 / 3:
            self.take_back(what)
        self.is_made_whole(what)

    def kill(self, process: Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def cut_off(self, process: Popen[str]) -> None:
        """For the rest of the run."""
        for host in HOSTS:
            self.on(host, CUT)
        try:
            os.killpg(process.pid, signal.SIGCONT)
            said, _ = process.communicate(timeout=NOTICED_S)
            assert process.returncode in (0, 1) and "Traceback" not in said, said
        except TimeoutExpired:
            self.kill(process)
            raise
        finally:
            for host in HOSTS:
                self.on(host, HEALED)

    def serve_soon(self, what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S + BACK_S
        while not self.serve():
            assert time.monotonic() < deadline, f"{what}: a host does not serve any more"

    def take_back(self, what: str) -> None:
        """Hosts that wait for a confirmation serve what they did before, and wait for nothing more."""
        waiting = [host for host in HOSTS if self.on(host, WAITS)]
        deadline = time.monotonic() + DEADLINE_S + BACK_S
        while any(self.on(host, WAITS) for host in waiting):
            assert time.monotonic() < deadline, f"{what}: {waiting} take nothing back"
            time.sleep(1)
        assert all(self.on(host, CURRENT).strip() == self.names[1 - self.at] for host in waiting), what
        self.serve_soon(what)
        print(f"  taken back by {', '.join(waiting) or 'nobody'}", flush=True)

    def is_made_whole(self, what: str) -> None:
        """By the next run, and by nothing else."""
        for host in HOSTS:
            _, ends, now = self.on(host, LEASE).split()
            assert int(ends) <= int(now) + LASTS_S, f"{what}: {host}: its lease lasts until {ends}, at {now}"
        for stale in self.fleet.state.rglob(".*.tmp"):
            os.utime(stale, (time.time() - STALE_S,) * 2)
        began, rerun = time.monotonic(), self.fleet.start(*UPGRADE)
        said, _ = rerun.communicate(timeout=900)
        print(f"  run again: exit {rerun.returncode}, {time.monotonic() - began:.0f} s", flush=True)
        assert rerun.returncode == 0, said
        assert self.current() == {self.names[self.at]} and self.serve(), said
        self.converged()
        for host in HOSTS:
            left = self.found(host) ^ self.listed[host]
            assert not left, f"{what}: {host}: {sorted(left)}"
            run, ends, _ = self.on(host, LEASE).split()
            # Where there was nothing left to do, nobody has taken it over: it is known to be a dead run's, and runs out.
            assert ends == "0" or run in json.loads((self.fleet.state / "lock").read_text())["ended"], f"{what}: {host} is not given back"


@pytest.fixture(scope="module")
def upgrades(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrades]:
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), FLEET, ready=True) as fleet:
        fleet.up()
        this = Upgrades(fleet)
        this.names[0] = this.current().pop()
        if "compiling" in this.undisturbed():
            this.undisturbed()
        yield this


@pytest.mark.parametrize("how", HOWS if WHOLE else spread("how an upgrade ends", HOWS, 2))
def test_it_may_end_anywhere(upgrades: Upgrades, how: How | Literal["at a moment"]) -> None:
    if how == "at a moment":
        upgrades.ends_at_moments()
    else:
        upgrades.ends_at_boundaries(how)

"""`paddock upgrade` may die at any moment: every host serves all the same, and the next run ends well."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from subprocess import Popen

import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import chance, spread, turn

pytestmark = turn(0, of=5)

FLEET = """
fleet: upgradekill
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false, builder: one}
      models:
      llama_server: {models: [demo], models_max: 1}
hosts:
  one: {address: 192.0.2.10}
  two: {address: 192.0.2.11}
models: {demo: {preset: {ctx-size: 512}}}
"""
RELEASES = (FLEET, FLEET.replace("ui: false", "ui: false, options: {GGML_CPU_REPACK: off}"))

CURRENT = "basename $(readlink /opt/paddock/llama.cpp/current)"
ASK = """curl -sS --max-time 30 127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \
  -d '{"model": "demo", "prompt": "Hello", "max_tokens": 8}' | grep -o text_completion || true"""

LEFT = """systemctl list-units --all --plain --no-legend 'paddock-guard*' 'paddock-gate*' 'paddock-measure*'
ls -d /var/lib/paddock/guard /var/lib/paddock/stage.* /etc/systemd/system/paddock-guard* /run/paddock-gate* 2>/dev/null; true"""

BACK_S = 60
"""A server that was being restarted when the run died answers within this time."""

MOMENTS = 50


@dataclass
class Upgrades:
    """Two hosts that go to and fro between two releases; how many lines a whole upgrade says, and how long it takes."""

    fleet: LabFleet
    at: int = 0
    lines: int = 0
    seconds: float = 0.0
    names: list[str] = field(default_factory=list)

    def start(self) -> Popen[str]:
        self.at = 1 - self.at
        self.fleet.write(RELEASES[self.at])
        return self.again()

    def again(self) -> Popen[str]:
        return self.fleet.start("upgrade", "--lab", "--yes", "--no-measure", "--soak", "1")

    def serve(self) -> bool:
        return all("text_completion" in self.fleet.on(host, ASK) for host in ("one", "two"))

    def current(self) -> set[str]:
        return {self.fleet.on(host, CURRENT).strip() for host in ("one", "two")}

    def is_killed(self, what: str, kill_when: Callable[[Popen[str]], None]) -> None:
        """The run dies; what is to be so then is."""
        process = self.start()
        kill_when(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + BACK_S
        while not self.serve():
            assert time.monotonic() < deadline, f"{what}: a host does not serve any more"
        began = time.monotonic()
        rerun = self.again()
        said, _ = rerun.communicate(timeout=900)
        print(f"{what}: run again: exit {rerun.returncode}, {time.monotonic() - began:.0f} s", flush=True)
        assert rerun.returncode == 0, said
        assert self.current() == {self.names[self.at]} and self.serve(), said
        for host in ("one", "two"):
            assert self.fleet.on(host, LEFT).strip() == "", f"{what}: {host}"
            assert self.fleet.on(host, "cut -f 3 /run/paddock/lease").strip() == "0", f"{what}: {host} is not given back"


@pytest.fixture(scope="module")
def upgrades(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrades]:
    with lab_fleet("upgradekill", tmp_path_factory.mktemp("upgradekill"), FLEET, ready=True) as fleet:
        fleet.up()
        this = Upgrades(fleet)
        this.names = [*this.current(), ""]
        for way in ("to a release that is built", "back to one that lies there", "forth, undisturbed"):
            began, process = time.monotonic(), this.start()
            said, _ = process.communicate(timeout=3000)
            assert process.returncode == 0, said
            this.lines, this.seconds = len(said.splitlines()), time.monotonic() - began
            print(f"{way}: {this.lines} lines, {this.seconds:.0f} s", flush=True)
            if this.at == 1:
                this.names[1:] = this.current()
        yield this


def test_it_may_be_killed_after_anything_that_it_says(upgrades: Upgrades) -> None:
    for number in spread("lines of an upgrade", range(upgrades.lines), 3):

        def after_line(process: Popen[str], number: int = number) -> None:
            assert process.stdout
            for _ in range(number + 1):
                process.stdout.readline()

        upgrades.is_killed(f"after line {number + 1} of {upgrades.lines}", after_line)


def test_it_may_be_killed_at_any_moment(upgrades: Upgrades) -> None:
    moments = [each / MOMENTS * upgrades.seconds for each in range(MOMENTS)]
    for moment in spread("moments of an upgrade", moments, 2):
        at = moment + chance(f"moment {moment}").random() * upgrades.seconds / MOMENTS
        upgrades.is_killed(f"after {at:.1f} s of {upgrades.seconds:.0f}", lambda process, at=at: time.sleep(at))  # type: ignore[misc]

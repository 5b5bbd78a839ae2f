"""`paddock up` may die at any moment, and so may what it has started on a host: the next run makes it whole, and one more changes nothing.

One host goes to and fro between two inventories that have little in common, so that every run removes, installs,
lands, copies and restarts.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from lab.engine import engine
from tests.faults.host_state import HostState, host_state
from tests.faults.tripwire import HOLD, KILL, Call, tripwire, until
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import chance, spread

NAME = "kill"
MOMENTS = 20
CHOSEN = spread("moments", range(MOMENTS), 4)
chance("order of moments").shuffle(CHOSEN)  # every other run goes the other way: each moment comes to be tried in both

LAST_OF_ALL = "! grep -q ' model:.*/alpha.gguf' /var/lib/paddock/manifest || ! grep -q ' model:.*/beta.gguf' /var/lib/paddock/manifest"
"""True on the host once the manifest says what is there now, no more what was and what is to be."""

RESTART = Call("systemctl", "'restart llama-server.service'")

PACKAGES = Call("deb-systemd-helper")
"""In the middle of what dpkg does with Caddy: its package's own scripts call this."""

KILL_PACKAGES = "kill -9 $(pgrep -f paddock-does) $(pgrep -x apt-get) $(pgrep -x dpkg); exit"

LONG = ("packages", "removals", "services held back")
LAST_WORDS_S = 0.3
"""The summary at the end of a run, and the interpreter's end: by then all is done."""

EVERYWHERE = """
fleet: kill
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp: {{ui: false, source: {{sdist: llama-cpp-python==0.3.36}}}}
      models:
{roles}
models:
  alpha: {{preset: {{ctx-size: 1024}}}}
  beta: {{preset: {{ctx-size: 512}}}}
  both: {{preset: {{ctx-size: {ctx_size}}}}}
clients: {{laptop: {clients}}}
"""

MANY = "".join(f", client-{number}: " for number in range(12))

INVENTORIES = {
    "alone": EVERYWHERE.format(
        roles="""
      base:
      llama_server: {models: [beta, both], listen: "127.0.0.1:8081", memory_max: 8G}""",
        ctx_size=4096,
        clients="",
    ),
    "behind caddy": EVERYWHERE.format(
        roles="""
      base: {packages: [hello]}
      llama_server: {models: [alpha, both]}
      caddy: {sites: {ai.home.example: {upstream: ai}}}""",
        ctx_size=2048,
        clients=MANY,
    ),
    "behind another caddy": EVERYWHERE.format(
        roles="""
      base: {packages: [hello]}
      llama_server: {models: [beta], listen: "127.0.0.1:8081"}
      caddy: {redirect: false, sites: {ai.home.example: {upstream: ai, clients: [laptop]}}}""",
        ctx_size=2048,
        clients=MANY,
    ),
}
FAR = {"behind caddy": "alone", "behind another caddy": "alone", "alone": "behind caddy"}
"""From one to another where all is different: packages come and go."""

NEAR = {"alone": "behind caddy", "behind caddy": "behind another caddy", "behind another caddy": "behind caddy"}
"""From one to another with files, models and services to change, but no package."""

KEPT = "/etc/systemd/system/caddy.service.d/40-restart.conf"
"""Lies on the host from before Paddock: it has to be there again whenever Caddy is not."""

UNIT = "/etc/systemd/system/llama-server.service"
PRESETS = "/etc/paddock/llama-server/presets.ini"


@dataclass
class Shuttle:
    """The host, which of the inventories it is at, and what undisturbed runs made of it, when they ended each step, and how long they took."""

    fleet: LabFleet
    container: str
    at: str = "behind caddy"
    undisturbed: dict[str, HostState] = field(default_factory=dict)
    steps: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> HostState:
        return host_state(self.container, self.fleet.state)

    def leave(self, roads: Mapping[str, str]) -> None:
        """Writes another inventory: the next `up` goes there."""
        self.at = roads[self.at]
        self.fleet.write(INVENTORIES[self.at])

    def start(self, *, verify: bool = False) -> Up:
        return Up(self.fleet.start("up", "--lab", "--yes", *(() if verify else ("--no-verify",))))

    def depart(self, roads: Mapping[str, str]) -> Up:
        self.leave(roads)
        return self.start()

    def begins_alone(self) -> None:
        """The next far road leads to packages that are to be installed."""
        if self.at != "alone":
            self.leave(FAR)
            self.fleet.up("--no-verify")

    def inside(self, script: str) -> str:
        return inside(self.container, script)

    def arrives(self, again: Up | None = None) -> None:
        """The next run makes it what an undisturbed one would have; the one after that finds nothing to do."""
        again = again or self.start()
        assert again.code == 0, again.said
        state = self.state
        assert not state.differs_from(self.undisturbed[self.at])
        assert state.hash == self.undisturbed[self.at].hash
        third = self.start()
        assert third.code == 0, third.said
        assert re.search(r"^ai +0 changed", third.said, re.MULTILINE), third.said


@dataclass
class Up:
    """`paddock up` at work. `told` is what it printed, each line with the seconds since it began."""

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    told: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.told.append((time.monotonic() - self.began, line.rstrip()))

    @property
    def code(self) -> int:
        """Its exit code, minus the signal's number where one ended it; never does it print a traceback."""
        self.process.wait(900)
        self.listener.join()
        assert "Traceback" not in self.said, self.said
        return self.process.returncode

    @property
    def said(self) -> str:
        return "\n".join(line for _, line in self.told)

    @property
    def steps(self) -> list[tuple[float, str]]:
        """When it ended each of its steps that always take their time."""
        found = ((at, re.match(r"  ai  (\S.*?)  ", line)) for at, line in self.told)
        return [(at, step[1]) for at, step in found if step and (":" in step[1] or step[1] in LONG)]

    def send(self, what: signal.Signals) -> float:
        """To all of its processes; gives how many seconds after it began that was."""
        with suppress(ProcessLookupError):  # it was quicker
            os.killpg(self.process.pid, what)
        return time.monotonic() - self.began

    def reaches(self, moment: Moment) -> None:
        """Returns at that moment, in a run that is as fast as this one is today: the steps that it has ended count, not the clock alone."""
        while self.process.poll() is None:
            ended = [self.began + at for at, _ in self.steps]
            if len(ended) > moment.steps or (
                len(ended) == moment.steps and time.monotonic() - (ended or [self.began])[-1] >= moment.seconds
            ):
                return
            time.sleep(0.005)

    def says(self, words: str) -> None:
        """Returns once it has said so."""
        while words not in self.said:
            assert self.process.poll() is None, self.said
            time.sleep(0.01)

    def why(self) -> str:
        """The one line that says why it failed."""
        assert self.code == 1, self.said
        lines = [line for line in self.said.splitlines() if re.match("ai: (?!.* to change$)", line)]
        assert len(lines) == 1, self.said
        return lines[0]


@dataclass(frozen=True)
class Moment:
    """So many steps are ended, and the last of them so many seconds ago."""

    steps: int
    seconds: float


def moment_of(steps: list[tuple[float, str]], at_s: float) -> Moment:
    ended = [at for at, _ in steps if at <= at_s]
    return Moment(len(ended), at_s - (ended or [0.0])[-1])


@pytest.fixture(scope="module")
def shuttle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shuttle]:
    lab_hosts.down(NAME)  # that of an earlier run is not fresh any more
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), INVENTORIES["behind caddy"]) as fleet:
        shuttle = Shuttle(fleet, fleet.host("ai").container)
        shuttle.inside(f"mkdir {KEPT.rpartition('/')[0]}; printf '[Service]\\nRestartSec=7\\n' >{KEPT}")
        shuttle.inside("echo 'DPkg::Path \"/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin\";' >/etc/apt/apt.conf.d/99tripwire")
        _first_run_killed_while_it_builds(shuttle)
        built = shuttle.state
        for roads in (FAR, FAR, NEAR, NEAR, FAR):
            before = shuttle.undisturbed.get(roads[shuttle.at])
            _undisturbed(shuttle, roads)
            # What two undisturbed runs make different could not be compared.
            assert not before or not shuttle.undisturbed[shuttle.at].differs_from(before)
        assert not built.differs_from(shuttle.undisturbed["behind caddy"])
        yield shuttle
        shuttle.leave(FAR)
        fleet.up()


def _first_run_killed_while_it_builds(shuttle: Shuttle) -> None:
    up = shuttle.start()
    up.says("compiling")
    up.send(signal.SIGKILL)
    print("kill: the first up, while it compiled", flush=True)
    again = shuttle.start()
    assert again.code == 0, again.said


def _undisturbed(shuttle: Shuttle, roads: Mapping[str, str]) -> None:
    up = shuttle.depart(roads)
    assert up.code == 0, up.said
    seconds = time.monotonic() - up.began
    if roads is FAR:
        shuttle.seconds[shuttle.at], shuttle.steps[shuttle.at] = seconds, up.steps
    shuttle.undisturbed[shuttle.at] = shuttle.state
    steps = ", ".join(f"{name} at {seconds:.1f}" for seconds, name in up.steps)
    print(
        f"kill: undisturbed, to {shuttle.at}: {seconds:.1f} s ({steps}): {shuttle.undisturbed[shuttle.at].hash}",
        flush=True,
    )


@pytest.mark.parametrize("moment", CHOSEN)
def test_a_run_that_is_killed_at_any_moment_is_made_whole_by_the_next(shuttle: Shuttle, moment: int) -> None:
    up, last = shuttle.depart(FAR), shuttle.seconds[shuttle.at] - LAST_WORDS_S
    up.reaches(moment_of(shuttle.steps[shuttle.at], last * (moment + 0.5) / MOMENTS))
    at = up.send(signal.SIGKILL)
    after = f"after {up.steps[-1][1]}" if up.steps else "before its first step"
    print(f"kill: up to {shuttle.at}, after {at:.2f} s, {after}", flush=True)
    assert up.code == -signal.SIGKILL
    shuttle.arrives()


def test_a_run_that_is_killed_while_it_verifies_has_done_its_work(shuttle: Shuttle) -> None:
    shuttle.leave(NEAR)
    up = shuttle.start(verify=True)
    up.says("verifying")
    up.send(signal.SIGKILL)
    assert up.code == -signal.SIGKILL
    shuttle.arrives()


def test_a_run_that_is_killed_between_a_files_rename_and_its_services_restart_is_made_whole(shuttle: Shuttle) -> None:
    before = shuttle.inside("systemctl show -P InvocationID llama-server")
    with tripwire(shuttle.container, RESTART, HOLD) as wire:
        up = shuttle.depart(NEAR)
        wire.tripped()
        up.send(signal.SIGKILL)
        wire.kill_caller()
    assert up.code == -signal.SIGKILL
    assert not shuttle.state.differs_from(shuttle.undisturbed[shuttle.at]).get(f"sum {UNIT}"), "it has not landed"
    assert shuttle.inside("systemctl show -P InvocationID llama-server") == before, "it was restarted already"
    shuttle.arrives()


def test_a_run_that_is_killed_before_it_restarts_what_was_started_with_a_change_by_hand_is_made_whole(shuttle: Shuttle) -> None:
    shuttle.inside(f"echo '# by hand' >>{PRESETS}; systemctl restart llama-server")
    before = shuttle.inside("systemctl show -P InvocationID llama-server")
    with tripwire(shuttle.container, RESTART, HOLD) as wire:
        up = shuttle.start()
        wire.tripped()
        up.send(signal.SIGKILL)
        wire.kill_caller()
    assert up.code == -signal.SIGKILL
    assert "by hand" not in shuttle.inside(f"cat {PRESETS}"), "it was not mended yet"
    assert shuttle.inside("systemctl show -P InvocationID llama-server") == before, "it was restarted already"
    shuttle.arrives()
    assert shuttle.inside("systemctl show -P InvocationID llama-server") != before


def test_a_run_that_is_killed_while_it_issues_certificates_is_made_whole(shuttle: Shuttle) -> None:
    shuttle.begins_alone()
    records = shuttle.fleet.state / "certs" / "client"
    up = shuttle.depart(FAR)
    while (issued := len(list(records.glob("client-*.json")))) < 3 and up.process.poll() is None:
        pass
    up.send(signal.SIGKILL)
    assert up.code == -signal.SIGKILL
    issued = len(list(records.glob("client-*.json")))
    print(f"kill: up, with {issued} of 12 certificates issued", flush=True)
    assert issued < 12
    shuttle.arrives()


MOMENTS_ON_THE_HOST = {
    "as its archive has been unpacked": (Call("sync"), "manifest"),
    "as it has claimed what will be there": (
        Call("mv", "'-fT '*' /var/lib/paddock/manifest'", after=True),
        "file:/var/lib/paddock/manifest",
    ),
    "before a file is renamed": (Call("mv", f"'-fT '*' {PRESETS}'"), f"file:{PRESETS}"),
    "as a file is renamed": (Call("mv", f"'-fT '*' {PRESETS}'", after=True), f"file:{PRESETS}"),
    "as a model is renamed": (Call("mv", "'-fT '*.gguf", after=True), "model:/var/lib/paddock/models/(alpha|beta|both).gguf"),
    "as systemd is to read its units anew": (
        Call("systemctl", "daemon-reload"),
        "(services held back|file:/etc/systemd/system/[^/]+.d/50-paddock.conf)",
    ),
    "as a service is to be restarted": (RESTART, "service:llama-server.service"),
    "as a service has been restarted": (dataclasses.replace(RESTART, after=True), "service:llama-server.service"),
    "as the last of it is done": (Call("rm", "'-rf /var/lib/paddock/stage.'??????", when=LAST_OF_ALL), "file:/var/lib/paddock/manifest"),
}


@pytest.mark.parametrize("moment", MOMENTS_ON_THE_HOST)
def test_a_script_that_is_killed_on_the_host_is_told_in_one_line_and_made_whole(shuttle: Shuttle, moment: str) -> None:
    call, at_work = MOMENTS_ON_THE_HOST[moment]
    with tripwire(shuttle.container, call, KILL) as wire:
        up = shuttle.depart(NEAR)
        why = up.why()
        wire.tripped()
    print(f"kill: the script on the host, {moment}: {why}", flush=True)
    assert re.fullmatch(f"ai: {at_work}: what was at work there was killed: run the same again, it takes up from there", why)
    shuttle.arrives()


def test_apt_and_dpkg_killed_on_the_host_leave_nothing_that_the_next_run_cannot_mend(shuttle: Shuttle) -> None:
    for _ in range(2):  # one installs, the other removes
        with tripwire(shuttle.container, PACKAGES, KILL_PACKAGES) as wire:
            up = shuttle.depart(FAR)
            why = up.why()
            wire.tripped()
        print(f"kill: apt and dpkg: {why}", flush=True)
        assert shuttle.inside("dpkg --audit; ls /var/lib/dpkg/updates"), "it was not in the middle of anything"
        shuttle.arrives()


def test_a_script_that_outlives_its_run_is_waited_for(shuttle: Shuttle) -> None:
    with tripwire(shuttle.container, RESTART, HOLD) as wire:
        up = shuttle.depart(NEAR)
        wire.tripped()
        up.send(signal.SIGKILL)
        again = shuttle.start()
        until(shuttle.container, "pgrep -x flock")
        assert not again.told, "it has looked at a host on which something is at work"
        wire.release()
        shuttle.arrives(again)


def test_an_apt_that_outlives_its_run_is_waited_for(shuttle: Shuttle) -> None:
    shuttle.begins_alone()
    with tripwire(shuttle.container, PACKAGES, HOLD) as wire:
        up = shuttle.depart(FAR)
        wire.tripped()
        up.send(signal.SIGKILL)
        again = shuttle.start()
        again.says("services held back")
        wire.release()
        shuttle.arrives(again)


@pytest.mark.parametrize("words", ["to change", "models: files", "verifying"])
def test_an_interrupted_run_says_so_in_one_line_and_is_made_whole(shuttle: Shuttle, words: str) -> None:
    shuttle.leave(NEAR)
    up = shuttle.start(verify=True)
    up.says(words)
    up.send(signal.SIGINT)
    assert up.code == 1, up.said
    lines = up.said.splitlines()
    again = "what was at work on a host may go on; run the same again, it takes up from there"
    assert re.fullmatch(rf"interrupted( at ai: [a-z_ ]+(: [a-z]+)?)?: {again}", lines[-1]), up.said
    shuttle.arrives()


def test_a_host_that_loses_its_power_while_packages_are_installed_is_told_and_made_whole(shuttle: Shuttle) -> None:
    shuttle.begins_alone()
    with tripwire(shuttle.container, PACKAGES, HOLD) as wire:
        up = shuttle.depart(FAR)
        wire.tripped()
        engine().run("kill", shuttle.container)
        why = up.why()
        lab_hosts.up(load(shuttle.fleet.inventory))
        back = shuttle.inside("date +%s").strip()
    print(f"kill: the host: {why}", flush=True)
    assert "the connection was lost" in why
    assert shuttle.inside("dpkg --audit"), "it was not in the middle of anything"
    shuttle.arrives()
    started = shuttle.inside(f"journalctl -u caddy --since @{back} -o cat | grep -c ^Started")
    assert started.strip() == "1", "Caddy ran before its configuration was there"

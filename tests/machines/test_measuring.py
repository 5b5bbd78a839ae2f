"""Two releases, measured side by side on their host and judged: a real one beside itself, and servers that a shim paces beside each other.

The shim takes the time that it is told to take (tests/paced_server.py), so that what is judged is no noise of this machine.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from control.lifecycle.judgement import Judgement
from control.lifecycle.measuring import judged
from control.lifecycle.requests import AskedModel, requests
from inventory.upgrade import UpgradeLimits, UpgradeSettings
from resources import File, Release, Resource, Service
from roles.llama_cpp.measuring import Side, measurement, program
from tests.lab.snapshot import inside
from tests.lab_fleet import ROOT, LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(1, of=5)

FLEET = """
fleet: measuretest
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {packages: [python3]}
      llama_cpp: {accelerator: cpu}
      models:
      llama_server: {models: [demo, other]}
models: {demo: {preset: {ctx-size: 4096, parallel: 1, threads: 1}}, other: {preset: {threads: 1}}}
"""

CURRENT = "/opt/paddock/llama.cpp/current"
UNIT = "llama-server.service"
PRESETS = "/etc/paddock/llama-server/presets.ini"
MODELS = (AskedModel("demo", context=4096), AskedModel("other"))

SETTINGS = UpgradeSettings()

MEASURE = "sh /opt/measure/measure.sh /opt/measure/measurement"

LEFT = r"""
ls -d /run/paddock-measure* 2>/dev/null || true
systemctl list-units --all --plain --no-legend 'paddock-measure*'
ps -eo args | grep -E '[m]easure[.]sh|[r]un/paddock-measure' || true
"""
SERVING = "systemctl show -P InvocationID llama-server; systemctl show -P NRestarts llama-server"


@dataclass(frozen=True)
class Host:
    """The host, the release that serves there, and the resources that run it, as they lie on it."""

    container: str
    release: Release
    resources: tuple[Resource, ...]

    def paced(self, name: str, **pace: Any) -> Release:
        """A release whose llama-server is the shim."""
        path = f"/opt/measure/{name}"
        self.write(f"{path}/bin/pace.json", json.dumps(pace).encode())
        self.write(f"{path}/bin/llama-server", b"#!/usr/bin/python3\n" + (ROOT / "tests/paced_server.py").read_bytes())
        inside(self.container, f"chmod 755 {path}/bin/llama-server")
        return replace(self.release, path=path)

    def send(self, baseline: Release, canary: Release) -> None:
        sides = Side(baseline, self.resources), Side(canary, self.resources)
        self.write("/opt/measure/measurement", measurement(UNIT, *sides, requests(MODELS, "router")))
        self.write("/opt/measure/measure.sh", program())

    def judged(
        self, canary: Release, manner: str = "together", baseline: Release | None = None, settings: UpgradeSettings = SETTINGS
    ) -> Judgement:
        """Beside the shim at its own pace, where there is no other baseline."""
        self.send(baseline or self.paced("usual"), canary)

        def measure(rounds: int) -> list[str]:
            said = inside(self.container, f"{MEASURE} {manner} {-(-rounds // 2)}")
            assert inside(self.container, LEFT) == ""
            return said.splitlines()

        judgement = judged("ai", measure, settings, "0.3.34")
        print(*judgement.findings, sep="\n", flush=True)
        return judgement

    def write(self, path: str, data: bytes) -> None:
        encoded = base64.encodebytes(data).decode()
        inside(self.container, f"mkdir -p {Path(path).parent}; base64 -d >{path} <<'end'\n{encoded}end\n")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("measuretest", tmp_path_factory.mktemp("measure"), FLEET, ready=True) as fleet:
        fleet.up()
        yield fleet


@pytest.fixture(scope="module")
def host(fleet: LabFleet) -> Host:
    container = fleet.host("ai").container
    path = inside(container, f"readlink {CURRENT}")
    version, _, fingerprint = path.rpartition("/")[2].rpartition("-")
    release = Release(path, CURRENT, version, fingerprint, "sdist", options=(), targets=(), packages=())
    unit = File(f"/etc/systemd/system/{UNIT}", f"{inside(container, f'cat /etc/systemd/system/{UNIT}')}\n")
    presets = File(PRESETS, f"{inside(container, f'cat {PRESETS}')}\n")
    return Host(container, release, (release, unit, presets, Service(UNIT, restarts=(unit, presets, release))))


@pytest.mark.parametrize("manner", ["together", "turns"])
def test_a_real_release_does_what_it_does_and_what_serves_is_not_disturbed(host: Host, manner: str) -> None:
    """How fast it is beside itself, a busy machine decides; what it answers, and what is measured of it, it does not."""
    before = inside(host.container, SERVING)
    limits = UpgradeLimits(slower="99%", first_token="999%", start="999%")
    judgement = host.judged(host.release, manner, host.release, UpgradeSettings(rounds=4, limits=limits))
    assert judgement.verdict != "fail", judgement.causes
    told = " ".join(each.words.partition(":")[0] for each in judgement.findings if each.verdict != "told")
    for each in ("loading a model", "swapping models", "first token", "prompts", "generation", "memory of the host", "likely words"):
        assert each in told
    assert not [each.words for each in judgement.findings if each.words.startswith("text:")]
    assert inside(host.container, SERVING) == before


def test_a_server_that_is_as_fast_passes(host: Host) -> None:
    judgement = host.judged(host.paced("same"))
    assert (judgement.verdict, judgement.causes) == ("pass", ())
    assert set(judgement.reached) == {"prompts", "generation", "generation after a long prompt"}


@pytest.mark.parametrize("manner", ["together", "turns"])
def test_one_that_is_30_percent_slower_fails_by_its_speeds(host: Host, manner: str) -> None:
    judgement = host.judged(host.paced("slower", prompts=1400, generation=140), manner)
    assert judgement.verdict == "fail"
    causes = {each.partition(":")[0] for each in judgement.causes}
    assert causes and causes <= {"first token", "prompts", "generation", "generation after a long prompt"}


def test_one_that_is_slower_only_in_prompts_fails_by_them_alone(host: Host) -> None:
    judgement = host.judged(host.paced("prompts", prompts=1400))
    (cause,) = (each for each in judgement.causes if not each.startswith("first token"))
    assert cause.startswith("prompts: 1,") and "of 0.3.34 (-" in cause and cause.endswith(" %, limit -15 %)")


BROKEN = {
    "ends": ({"starts": "ends"}, "start: it ends with 1: error: this build cannot load its back end"),
    "hangs": ({"starts": "hangs"}, "start: it was not done in 6"),
    "crashes": ({"requests": 12}, "it dies of SIGSEGV"),
    "nonsense": ({"nonsense": True}, "nonsense: 95% of what it thinks likely is not what 0.3.34 does"),
    "no tools": ({"no_tools": True}, "tool call: it calls no tool (2 of 2 times); 0.3.34 does it"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_one_that_is_broken_fails_with_its_cause(host: Host, fault: str) -> None:
    pace, words = BROKEN[fault]
    judgement = host.judged(host.paced("broken", **pace))
    assert judgement.verdict == "fail"
    assert len(judgement.causes) == 1 and words in judgement.causes[0], judgement.causes


def test_timings_that_are_not_true_are_told_and_do_not_help(host: Host) -> None:
    judgement = host.judged(host.paced("boasts", prompts=1400, claims=2.0))
    assert judgement.verdict == "fail"
    assert any(each.words.startswith("timings: it says 2,800 tokens/s of prompts") for each in judgement.findings)


KILLS = {
    "the script": "kill -9 $pid",
    "who called it": "kill -9 $caller",
    "the unit": "kill -9 $(systemctl show -P MainPID paddock-measure)",
}


@pytest.mark.parametrize("who", KILLS)
def test_nothing_outlives_a_measurement_of_which_a_part_is_killed(host: Host, who: str) -> None:
    host.send(host.paced("usual"), host.paced("hanging", starts="hangs"))
    done = inside(
        host.container,
        rf"""
        sh -c 'echo $$ >/opt/measure/caller; {MEASURE} together 4 & echo $! >/opt/measure/pid; wait' >/opt/measure/said 2>&1 &
        for try in $(seq 300); do ! systemctl is-active -q paddock-measure-canary || break; sleep 0.1; done
        caller=$(cat /opt/measure/caller) pid=$(cat /opt/measure/pid)
        systemctl is-active -q paddock-measure-baseline && {KILLS[who]} && echo killed
        for try in $(seq 150); do [ "$(systemctl list-units --all --plain --no-legend 'paddock-measure*')" ] || break; sleep 0.1; done
        """,
    )
    assert done == "killed"
    assert inside(host.container, LEFT) == ""


OVER_SSH = """
import base64, sys
from argparse import Namespace
from pathlib import Path
from control.ssh.reach import Reach
from cli.arguments import opened
from control.lifecycle.measuring import judged, measured
from inventory.upgrade import UpgradeSettings

this = opened(Namespace(inventory=Path(sys.argv[1]), lab=True, limit=["ai"]))
reach = Reach(this.fleet, this.state, this.hosts)
packed = base64.b64decode(sys.stdin.read())
with reach.connected():
    found = judged("ai", lambda rounds: measured(reach, "ai", packed, "together", rounds), UpgradeSettings(rounds=4), "0.3.34")
print(found.verdict, *found.causes, sep="\\n")
"""


def test_it_is_measured_over_ssh_until_it_is_decided(fleet: LabFleet, host: Host) -> None:
    sides = Side(host.paced("usual"), host.resources), Side(host.paced("slower", prompts=1400, generation=140), host.resources)
    packed = base64.b64encode(measurement(UNIT, *sides, requests(MODELS, "router"))).decode()
    command = [sys.executable, "-c", OVER_SSH, str(fleet.inventory)]
    done = subprocess.run(command, cwd=ROOT, env=fleet.env, input=packed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fail\n") and "\nprompts: " in done.stdout, done.stdout
    assert inside(host.container, f"{LEFT} ls /run/paddock/measuring 2>&1 || true").endswith("No such file or directory")

"""Servers that become slow, on a lab host: the verification fails and the watchdog acts, once; what they reached is kept and shown.

What becomes slow is a stand-in (tests/paced_server.py) in place of the server's program, so that no other test on this machine decides.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from resources import SPEEDS, Reached, reached_of
from tests.lab.snapshot import inside
from tests.lab_fleet import ROOT, LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

FLEET = """
fleet: slowly
domain: home.example
networks: [192.0.2.0/24]
upgrade: {floor: 10%}
hosts:
  pea:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere, packages: [python3]}
      llama_cpp: {ui: false}
      models:
      llama_server: {instances: {dog: {model: demo, listen: "127.0.0.1:8101"}}}
      watchdog: {every_s: 3600, speed_every_s: 1}
models: {demo: {preset: {ctx-size: 1024, parallel: 1, threads: 1}}}
"""

DOG = "llama-server-dog.service"
DROPIN = f"/etc/systemd/system/{DOG}.d/99-paced.conf"
ROUND = "systemctl start paddock-watchdog; echo $?"
FORGET = "rm -rf /run/paddock/watchdog/*"
TOLD = "journalctl --sync; journalctl -q -o cat -u paddock-watchdog"
INVOCATION = f"systemctl show -P InvocationID {DOG}"

PACED = rf"""
set -e
mkdir -p /opt/paced
cat >/opt/paced/pace.json <<'end'
%s
end
echo %s | base64 -d >/opt/paced/server.py
if [ ! -e {DROPIN} ]; then
  socket=$(systemctl show -P ExecStart {DOG} | sed 's/.*--host \([^ ]*\).*/\1/')
  printf '[Service]\nExecStart=\nExecStart=/usr/bin/python3 /opt/paced/server.py --host %%s\n' "$socket" >{DROPIN}
  systemctl daemon-reload
fi
systemctl restart {DOG}
for try in $(seq 100); do
  curl -s --unix-socket /run/paddock/llama-server-dog.sock http://localhost/slots | grep -q processing && exit
  sleep 0.1
done
exit 1
"""

Pace = Callable[..., None]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("slowly")
    with lab_fleet("slowly", tmp_path_factory.mktemp("slowly"), FLEET, ready=True) as fleet:
        print(fleet.up().stdout[-600:], flush=True)
        yield fleet


@pytest.fixture
def pea(fleet: LabFleet) -> str:
    container = fleet.host("pea").container
    inside(container, FORGET)
    return container


@pytest.fixture
def pace(fleet: LabFleet, pea: str) -> Pace:
    """Has the server at this pace, which was measured at 20,000 and 2,000 tokens a second."""
    program = base64.b64encode((ROOT / "tests/paced_server.py").read_bytes()).decode()

    def paced(**found: Any) -> None:
        inside(pea, PACED % (json.dumps({"prompts": 20_000, "generation": 2_000, **found}), program))

    paced()
    if kept(pea)[-1].generation.middle != 2_000:
        fleet.paddock("verify", "--lab", "--measure")
    return paced


def kept(container: str) -> list[Reached]:
    return [*reached_of(inside(container, f"cat {SPEEDS}").splitlines())]


def test_what_a_server_reached_is_kept_by_the_first_verification_and_shown(fleet: LabFleet, pea: str) -> None:
    found = kept(pea)
    assert [(each.unit, each.model) for each in found] == [(DOG, "demo")]
    assert inside(pea, "readlink /opt/paddock/llama.cpp/current").endswith(f"/{found[0].release}")
    assert [*reached_of((fleet.state / "speeds" / "pea.txt").read_text().splitlines())] == found
    assert f"{DOG}, demo: " in fleet.paddock("status", "--lab").stdout
    (shown,) = json.loads(fleet.paddock("status", "--lab", "--json").stdout)["pea"]["speeds"]
    assert shown["floor"]["prompts"] == pytest.approx(found[0].prompts.middle / 10)
    assert fleet.paddock("verify", "--lab").returncode == 0
    assert kept(pea) == found, "what is known is not measured again"


def test_measuring_anew_replaces_what_is_kept(pea: str, pace: Pace) -> None:
    (found,) = kept(pea)
    assert (found.prompts.middle, found.generation.middle) == (20_000, 2_000)


def test_a_busy_server_is_told_and_not_measured(fleet: LabFleet, pea: str, pace: Pace) -> None:
    pace(busy=True, generation=100)
    done = fleet.paddock("verify", "--lab")
    assert f"{DOG}, demo: its speed is not measured: dog is busy" in done.stdout, done.stdout + done.stderr
    assert "the floor is" not in done.stderr
    assert "too slow" not in inside(pea, f"{ROUND}; {TOLD}")


def test_a_slow_server_fails_the_verification_is_restarted_once_and_then_told(fleet: LabFleet, pea: str, pace: Pace) -> None:
    pace(generation=100)
    done = fleet.paddock("verify", "--lab")
    (words,) = (line.strip() for line in done.stderr.splitlines() if "the floor is 10 % of that" in line)
    assert words.startswith(f"{DOG}, demo: reads 20,000 tokens/s of prompts and generates 100, at best in 3 trials; with ")
    inside(pea, FORGET)  # there was a round among the checks
    first = inside(pea, INVOCATION)
    assert [inside(pea, ROUND) for _ in range(3)] == ["0", "0", "0"]
    second = inside(pea, INVOCATION)
    slow = (
        "dog reads 20000 tokens/s of prompts and generates 100, at best in 3 looks; it reached 20000 and 2000: the floor is 10 % of that."
    )
    assert second != first and slow in inside(pea, TOLD) and "another program uses it: restarting it" in inside(pea, TOLD)
    assert "the watchdog restarted dog, which was too slow, " in fleet.paddock("status", "--lab").stdout
    assert [inside(pea, f"{ROUND} 2>/dev/null") for _ in range(4)] == ["0", "0", "1", "1"]
    assert inside(pea, INVOCATION) == second
    status = fleet.paddock("status", "--lab")
    assert status.returncode == 3 and slow in status.stdout and "although it was restarted" in status.stdout
    pace()
    assert inside(pea, ROUND) == "0"
    assert "although it was restarted" not in fleet.paddock("status", "--lab").stdout

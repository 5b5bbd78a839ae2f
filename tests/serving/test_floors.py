"""Servers that become slow, on a lab host: the verification fails and the watchdog acts, once; what they reached is kept and shown.

They are slowed by systemd, by far more than other tests on this machine can slow them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import hosts as lab_hosts
from resources import SPEEDS, Reached, reached_of
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
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
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        models: [demo]
        instances:
          dog: {model: demo, listen: "127.0.0.1:8101"}
      watchdog: {every_s: 3600, look_s: 20, speed_every_s: 1}
models: {demo: {preset: {ctx-size: 1536, parallel: 3, threads: 1}}}
"""

DOG = "llama-server-dog.service"
SLOW = f"systemctl set-property --runtime {DOG} CPUQuota=1%"
FORGET = "rm -rf /run/paddock/watchdog/*"
ROUND = "systemctl start paddock-watchdog; echo $?"
TOLD = "journalctl --sync; journalctl -q -o cat -u paddock-watchdog"
AT_DOG = "curl -s -m 300 --unix-socket /run/paddock/llama-server-dog.sock http://localhost"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("slowly")
    with lab_fleet("slowly", tmp_path_factory.mktemp("slowly"), FLEET, ready=True) as fleet:
        print(fleet.up().stdout[-600:], flush=True)
        yield fleet


@pytest.fixture
def pea(fleet: LabFleet) -> Iterator[str]:
    container = fleet.host("pea").container
    inside(container, FORGET)
    yield container
    inside(container, f"rm -rf /run/systemd/system.control/{DOG}.d; systemctl daemon-reload; systemctl restart {DOG}")


def kept(container: str) -> list[Reached]:
    return [*reached_of(inside(container, f"cat {SPEEDS}").splitlines())]


def test_what_servers_reached_is_kept_by_the_first_verification_and_shown(fleet: LabFleet, pea: str) -> None:
    found = kept(pea)
    assert {(each.unit, each.model) for each in found} == {("llama-server.service", "demo"), (DOG, "demo")}
    (release,) = {each.release for each in found}
    assert inside(pea, "readlink /opt/paddock/llama.cpp/current").endswith(f"/{release}")
    assert [*reached_of((fleet.state / "speeds" / "pea.txt").read_text().splitlines())] == found
    assert f"{DOG}, demo: " in fleet.paddock("status", "--lab").stdout
    shown = json.loads(fleet.paddock("status", "--lab", "--json").stdout)["pea"]["speeds"]
    assert {each["unit"]: each["floor"]["prompts"] for each in shown} == pytest.approx({e.unit: e.prompts.middle / 10 for e in found})
    assert fleet.paddock("verify", "--lab").returncode == 0
    assert kept(pea) == found, "what is known is not measured again"


def test_a_busy_server_is_told_and_not_measured(fleet: LabFleet, pea: str) -> None:
    ask = '{"prompt": "Hello", "n_predict": 400, "ignore_eos": true}'
    begun = f"""
        systemctl set-property --runtime {DOG} CPUQuota=5%
        touch /run/asking
        for one in 1 2; do
          while [ -e /run/asking ]; do {AT_DOG}/completion -d '{ask}' || sleep 1; done >/dev/null 2>&1 &
        done
        for try in $(seq 300); do {AT_DOG}/slots | grep -q '"is_processing":true' && exit; sleep 0.1; done; exit 1"""
    inside(pea, begun)
    done = fleet.paddock("verify", "--lab")
    assert f"{DOG}, demo: its speed is not measured: dog is busy" in done.stdout, done.stdout + done.stderr
    assert "the floor is" not in done.stderr
    inside(pea, "rm /run/asking")


def test_a_slow_server_fails_the_verification_is_restarted_once_and_then_told(fleet: LabFleet, pea: str) -> None:
    inside(pea, SLOW)
    done = fleet.paddock("verify", "--lab")
    assert done.returncode == 1
    (words,) = (line.strip() for line in done.stderr.splitlines() if "the floor is 10 % of that" in line)
    assert words.startswith(f"{DOG}, demo: ") and "another program uses it" in words and "llama-server.service" not in words
    inside(pea, FORGET)  # there was a round among the checks
    first = inside(pea, f"systemctl show -P InvocationID {DOG}")
    assert [inside(pea, ROUND) for _ in range(3)] == ["0", "0", "0"]
    assert inside(pea, f"systemctl show -P InvocationID {DOG}") != first
    assert "at best in 3 looks" in inside(pea, TOLD) and "other program uses it: restarting it" in inside(pea, TOLD)
    status = fleet.paddock("status", "--lab").stdout
    assert "the watchdog restarted dog, which was too slow, 0 min ago" in status
    ready = f"for try in $(seq 600); do {AT_DOG}/slots | grep -q is_processing && exit; sleep 0.5; done; exit 1"
    inside(pea, ready)
    second = inside(pea, f"systemctl show -P InvocationID {DOG}")
    assert [inside(pea, ROUND) for _ in range(4)][-1] == "1"
    assert inside(pea, f"systemctl show -P InvocationID {DOG}") == second
    status = fleet.paddock("status", "--lab").stdout
    assert "dog reads" in status and "although it was restarted" in status
    inside(pea, f"systemctl set-property --runtime {DOG} CPUQuota=")
    assert inside(pea, ROUND) == "0"
    assert "although it was restarted" not in fleet.paddock("status", "--lab").stdout


def test_measuring_anew_accepts_a_server_as_it_is(fleet: LabFleet, pea: str) -> None:
    before = {each.unit: each.prompts.middle for each in kept(pea)}
    inside(pea, SLOW)
    done = fleet.paddock("verify", "--lab", "--measure")
    assert "the floor is" not in done.stderr
    after = {each.unit: each.prompts.middle for each in kept(pea)}
    assert after[DOG] < before[DOG] / 10

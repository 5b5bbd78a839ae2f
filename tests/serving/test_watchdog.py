"""The watchdog, on servers that hang, that compute, and that lose a card: real llama-servers, really stopped.

What a card's driver says comes from a program of the test's own in place of nvidia-smi, for there is no card in a lab host.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from inventory.fleet import Fleet
from inventory.hardware import Hardware, PciDevice
from inventory.knowledge import Knowledge
from lab import hosts as lab_hosts
from resources import File
from roles.host_plan import host_plan
from tests.lab.snapshot import inside as in_container
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

FLEET = """
fleet: dogs
domain: home.example
networks: [192.0.2.0/24]
hosts:
  pea:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        models: [demo]
        api_key: true
        instances:
          dog:
            model: demo
            listen: 127.0.0.1:8101
            count: 2
            # a token at a time, on one core: a prompt that fills the context takes half a minute
            preset: {ctx-size: 32768, parallel: 1, batch-size: 8, ubatch-size: 1, threads: 1}
          nap: {model: demo, listen: "127.0.0.1:8110", preset: {ctx-size: 1024, sleep-idle-seconds: 6}}
      watchdog:
        every_s: 10
        look_s: 4
        answer_s: 3
        idle_every_s: 0
        notify: [/usr/bin/false]    # the lab writes to the journal in its place
models: {demo: {}}
"""

SERVERS = ("llama-server", "llama-server-dog-1", "llama-server-dog-2")

ROUND = "systemctl start paddock-watchdog; echo $?"
SOON_WELL = f"for try in $(seq 60); do {ROUND} | grep -qx 0 && exit; sleep 1; done; echo 'is told still'"
"""What is loading, or has just been let go on, is not well in an instant."""

FORGET = "rm -rf /run/paddock/watchdog/*; systemctl reset-failed paddock-watchdog 2>/dev/null || true"
TOLD = """journalctl --sync; journalctl -q -o cat -t paddock-notify --since "@$(cat /var/tmp/began)" """

LONG = r"""
{ printf '{"prompt": "'; head -c 30000 /dev/zero | tr '\0' a; printf '", "max_tokens": 1}'; } >/tmp/long.json
curl -s -o /tmp/long.answer -w '%{http_code}\n' http://127.0.0.1:8101/v1/completions -d @/tmp/long.json >/tmp/long.code 2>&1 &
for try in $(seq 100); do curl -s http://127.0.0.1:8101/slots | grep -q '"is_processing":true' && break; sleep 0.1; done
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("dogs")
    with lab_fleet("dogs", tmp_path_factory.mktemp("dogs"), FLEET, ready=True) as fleet:
        print(fleet.up().stdout[-600:], flush=True)
        yield fleet


@pytest.fixture
def pea(fleet: LabFleet) -> Iterator[str]:
    """The host's container, on which nothing looks but who is told to, and nothing is remembered."""
    container = fleet.host("pea").container
    inside(container, f"systemctl stop paddock-watchdog.timer paddock-watchdog; {FORGET}; date +%s >/var/tmp/began")
    yield container
    inside(container, f"systemctl start {' '.join(SERVERS)}; {FORGET}")


KEYED = 'curl() { command curl -H "Authorization: Bearer $(sed s/LLAMA_API_KEY=// /etc/paddock/llama-server/api-key.env)" "$@"; }\n'


def inside(container: str, script: str) -> str:
    """What a script prints in a container, in which `curl` knows the key."""
    return in_container(container, KEYED + script)


def invocations(container: str) -> dict[str, str]:
    """Which start of each server it is that runs."""
    return {server: inside(container, f"systemctl show -P InvocationID {server}") for server in SERVERS}


def stop(container: str, server: str) -> None:
    inside(container, f"kill -STOP $(systemctl show -P MainPID {server})")


def said(container: str) -> str:
    inside(container, "journalctl --sync")
    return inside(container, "journalctl -q -o cat -u paddock-watchdog --since -3min || true")


def test_the_timer_looks_by_itself_and_finds_everybody_well(fleet: LabFleet) -> None:
    container = fleet.host("pea").container
    inside(
        container,
        'for try in $(seq 60); do [ -n "$(systemctl show -P LastTriggerUSec paddock-watchdog.timer)" ] && exit; sleep 1; done; exit 1',
    )
    inside(
        container,
        'for try in $(seq 60); do [ "$(systemctl show -P ActiveState paddock-watchdog)" = inactive ] && exit; sleep 1; done; exit 1',
    )
    assert inside(container, "systemctl show -P Result paddock-watchdog") == "success"
    assert fleet.paddock("status", "--lab").returncode == 0


def test_the_units_are_as_systemd_wants_them(pea: str) -> None:
    assert inside(pea, "systemd-analyze verify paddock-watchdog.service paddock-watchdog.timer 2>&1") == ""


def test_one_that_is_stopped_is_restarted_and_no_other(pea: str) -> None:
    before = invocations(pea)
    stop(pea, "llama-server-dog-2")
    assert inside(pea, ROUND) == "0"
    after = invocations(pea)
    assert {server for server in SERVERS if after[server] != before[server]} == {"llama-server-dog-2"}
    assert "dog-2 runs, and does not answer: its process is stopped: restarting it" in said(pea)
    assert inside(pea, ROUND) == "0"
    assert invocations(pea) == after
    assert inside(pea, TOLD) == ""


def test_a_long_prompt_on_the_only_slot_is_left_alone_and_answered(pea: str) -> None:
    before = invocations(pea)
    inside(pea, LONG)
    assert inside(pea, f"{ROUND}; curl -s http://127.0.0.1:8101/slots | grep -o '\"is_processing\":true'").split() == [
        "0",
        '"is_processing":true',
    ]
    assert invocations(pea) == before
    assert inside(pea, "for try in $(seq 120); do [ -s /tmp/long.code ] && break; sleep 1; done; cat /tmp/long.code") == "200"


def test_a_second_fault_fails_the_unit_is_shown_and_told_once(fleet: LabFleet, pea: str) -> None:
    stop(pea, "llama-server-dog-2")
    assert inside(pea, ROUND) == "0"
    stop(pea, "llama-server-dog-2")
    before = invocations(pea)
    assert [inside(pea, f"{ROUND} 2>/dev/null") for again in range(2)] == ["1", "1"]
    assert invocations(pea) == before
    fault = "dog-2 runs, and does not answer: its process is stopped, although it was restarted 0 min ago"
    assert inside(pea, TOLD) == f"pea dog-2 llama-server-dog-2.service, as nobody: {fault}"
    status = fleet.paddock("status", "--lab")
    assert (status.returncode, fault in status.stdout) == (3, True)
    assert fault in json.loads(fleet.paddock("status", "--lab", "--json").stdout)["pea"]["machine"]["faults"]
    inside(pea, "kill -CONT $(systemctl show -P MainPID llama-server-dog-2)")
    assert inside(pea, SOON_WELL) == ""
    assert fault not in fleet.paddock("status", "--lab").stdout


def test_a_worker_of_the_router_that_hangs_is_loaded_anew_and_the_router_stays(pea: str) -> None:
    ask = 'curl -s http://127.0.0.1:8080/v1/completions -d \'{"model": "demo", "prompt": "Hello", "max_tokens": 4}\''
    worker = "systemctl show -P MainPID llama-server | xargs pgrep -P"
    assert '"text"' in inside(pea, ask)
    before, first = invocations(pea), inside(pea, worker)
    inside(pea, f"kill -STOP {first}")
    assert inside(pea, ROUND) == "0"
    assert '"text"' in inside(pea, ask)
    assert inside(pea, worker) != first
    assert invocations(pea) == before


def test_a_model_that_is_not_loaded_is_not_loaded_by_looking(pea: str) -> None:
    status = 'curl -s http://127.0.0.1:8080/models | grep -o \'"value":"[a-z]*"\''
    inside(pea, 'curl -s http://127.0.0.1:8080/models/unload -d \'{"model": "demo"}\'')
    inside(pea, f'for try in $(seq 60); do [ "$({status})" = \'"value":"unloaded"\' ] && break; sleep 0.5; done')
    assert inside(pea, ROUND) == "0"
    assert inside(pea, status) == '"value":"unloaded"'


def test_one_that_may_fall_asleep_is_neither_kept_awake_nor_woken(pea: str) -> None:
    sleeping = "curl -s http://127.0.0.1:8110/props | grep -o '\"is_sleeping\":[a-z]*'"
    inside(pea, 'curl -s http://127.0.0.1:8110/v1/completions -d \'{"prompt": "Hello", "max_tokens": 4}\'')
    assert inside(pea, f"{ROUND}; {sleeping}").split() == ["0", '"is_sleeping":false']
    inside(pea, f"for try in $(seq 15); do {ROUND}; sleep 1; done")
    assert inside(pea, f"{sleeping}; {ROUND}; {sleeping}").split() == ['"is_sleeping":true', "0", '"is_sleeping":true']


def test_one_that_somebody_has_stopped_stays_stopped(pea: str) -> None:
    inside(pea, "systemctl stop llama-server-dog-1")
    assert inside(pea, ROUND) == "0"
    assert inside(pea, "systemctl is-active llama-server-dog-1 || true") == "inactive"


def test_one_that_ends_as_often_as_it_is_started_is_told_until_it_stays(pea: str) -> None:
    dropin = "/etc/systemd/system/llama-server-dog-1.service.d/99-broken.conf"
    ends = shlex.quote("[Service]\nExecStartPre=/bin/false\nRestartSec=0.1\nRestartSteps=0\n")
    inside(pea, f"printf {ends} >{dropin}; systemctl daemon-reload; systemctl restart llama-server-dog-1 || true")
    again = "systemctl show -P NRestarts llama-server-dog-1"
    try:
        inside(pea, f"for try in $(seq 100); do [ $({again}) -ge 6 ] && exit; sleep 0.2; done; exit 1")
        assert inside(pea, f"{ROUND} 2>/dev/null") == "1"
        assert "dog-1 ends as often as it is started: systemd has started it again" in said(pea)
    finally:
        inside(pea, f"rm {dropin}; systemctl daemon-reload; systemctl restart llama-server-dog-1")
    assert inside(pea, SOON_WELL) == ""


def test_one_that_has_lost_its_card_is_restarted(pea: str) -> None:
    watched = "/etc/paddock/watchdog/servers"
    inside(pea, f"cp {watched} /var/tmp/; sed -i '/^dog-1 /s/ none / nvidia /' {watched}; grep -q ' nvidia ' {watched}")
    fake = '#!/bin/sh\necho "$(systemctl show -P MainPID llama-server-dog-1), $(cat /opt/held)"\n'
    inside(pea, f"cat >/usr/local/bin/nvidia-smi <<'end'\n{fake}end\nchmod 755 /usr/local/bin/nvidia-smi; echo 5400 >/opt/held")
    try:
        assert inside(pea, f"{ROUND}; {ROUND}").split() == ["0", "0"]
        before = invocations(pea)
        inside(pea, "echo 200 >/opt/held")
        assert inside(pea, ROUND) == "0"
        after = invocations(pea)
        assert {server for server in SERVERS if after[server] != before[server]} == {"llama-server-dog-1"}
        assert "dog-1 has lost its card: it holds 200 MiB there, and had 5400 MiB: restarting it" in said(pea)
        inside(pea, "rm -rf /run/paddock/watchdog/*; echo 0 >/opt/held")
        assert inside(pea, ROUND) == "0"
        assert "dog-1 computes on the processor: it holds no memory of a card: restarting it" in said(pea)
    finally:
        inside(pea, f"cp /var/tmp/servers {watched}; rm /usr/local/bin/nvidia-smi")


def test_the_units_of_the_cards_are_as_systemd_wants_them(fleet: LabFleet) -> None:
    cards = {"nvidia": {"driver": "installed", "power_limit_w": 90}, "amd": {"gtt_mib": 8192}}
    host = {"name": "rig", "address": "192.0.2.7", "roles": {"gpu": cards}}
    gpus = (PciDevice("0000:01:00.0", "10de", "1b87", "P104"), PciDevice("0000:06:00.0", "1002", "1586", "Strix Halo"))
    hardware = Hardware("x86_64", "", frozenset(), 2, 16384, "debian 13", gpus=gpus, nvidia_driver="580.95.05")
    rig = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"rig": host}})
    planned = host_plan(rig.hosts["rig"], rig, Knowledge(hardware={"rig": hardware}))["gpu"]
    units = [each for each in planned if isinstance(each, File) and each.path.endswith(".service")]
    assert len(units) == 3
    container = fleet.host("pea").container
    for unit in units:
        name = unit.path.rpartition("/")[2]
        inside(container, f"mkdir -p /tmp/units; cat >/tmp/units/{name} <<'end'\n{unit.data.decode()}end\n")
    assert inside(container, "cd /tmp/units && systemd-analyze verify ./*.service 2>&1") == ""


def test_whom_nobody_watches_any_more_has_no_timer(fleet: LabFleet, pea: str) -> None:
    written = fleet.inventory.read_text()
    try:
        fleet.write(FLEET[: FLEET.index("      watchdog:")] + FLEET[FLEET.index("models: {demo") :])
        fleet.up("--no-verify")
        assert (
            inside(pea, "ls /etc/systemd/system /etc/paddock | grep watchdog || true; systemctl list-timers --all | grep watchdog || true")
            == ""
        )
    finally:
        fleet.write(written)

"""What options ask of a server's sandbox it has, and no more: a port below 1024, a directory to write to, files of a home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from roles.devices import TEGRA_NODES
from roles.sandbox import NVIDIAS
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

INVENTORY = """
fleet: sandbox
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server:
        opens: [slot-save-path, log-file]
        instances:
          low: {model: demo, listen: "127.0.0.1:81", preset: {slot-save-path: /srv/slots, chat-template-file: /home/ann/chat.jinja}}
models: {demo: {preset: {ctx-size: 512, log-file: /var/lib/llama-server/logs/demo}}}
"""

UNIT = "llama-server-low.service"
IN_ITS_PLACE = f"nsenter --target $(systemctl show -P MainPID {UNIT}) --mount --setuid $(id -u llama-server) --setgid 0"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("sandbox")
    with lab_fleet("sandbox", tmp_path_factory.mktemp("sandbox"), INVENTORY, ready=True) as fleet:
        template = "{% for each in messages %}{{ each.content }}{% endfor %}"
        fleet.on("ai", f"mkdir -p /home/ann; echo '{template}' >/home/ann/chat.jinja; echo secret >/home/ann/other")
        fleet.up()
        yield fleet


def ask(fleet: LabFleet, path: str, body: dict[str, Any]) -> Any:
    asked = f"curl -sS -H 'Content-Type: application/json' -d '{json.dumps(body)}' 'http://127.0.0.1:81{path}'"
    return json.loads(fleet.on("ai", asked))


def test_it_saves_a_slot_where_it_was_told_to(fleet: LabFleet) -> None:
    ask(fleet, "/completion", {"prompt": "Hello", "n_predict": 2, "id_slot": 0})
    assert ask(fleet, "/slots/0?action=save", {"filename": "hello"})["n_saved"] > 0
    release = fleet.on("ai", "basename $(readlink /opt/paddock/llama.cpp/current)").strip()
    assert fleet.on("ai", f"stat -c '%U %a' /srv/slots; test -s /srv/slots/{release}/hello").strip() == "llama-server 750"


def test_it_logs_where_it_was_told_to(fleet: LabFleet) -> None:
    assert fleet.on("ai", "stat -c %U /var/lib/llama-server/logs/demo").strip() == "llama-server"


def test_of_a_home_it_sees_the_file_that_it_reads_and_no_other(fleet: LabFleet) -> None:
    assert fleet.on("ai", f"{IN_ITS_PLACE} ls /home/ann").split() == ["chat.jinja"]


def test_it_has_no_capability_although_its_port_is_low(fleet: LabFleet) -> None:
    status = fleet.on("ai", f"grep -E '^Cap(Bnd|Eff)' /proc/$(systemctl show -P MainPID {UNIT})/status")
    assert [line.split()[1] for line in status.splitlines()] == ["0000000000000000"] * 2


def test_its_unit_passes_systemds_own_check(fleet: LabFleet) -> None:
    assert fleet.on("ai", f"systemd-analyze verify --recursive-errors=no {UNIT} 2>&1; echo $?").strip() == "0"


def test_a_unit_starts_where_devices_that_it_may_open_are_not_there(fleet: LabFleet) -> None:
    """As all of a Jetson's are not here."""
    allowed = " ".join(f"-p 'DeviceAllow={each} rw'" for each in (*NVIDIAS, *TEGRA_NODES))
    assert fleet.on("ai", f"systemd-run --quiet --wait --pipe -p DevicePolicy=closed {allowed} echo well").strip() == "well"


def test_a_second_run_finds_nothing_to_do(fleet: LabFleet) -> None:
    assert "0 changed" in fleet.up().stdout


def test_without_its_file_it_says_which_is_missing(fleet: LabFleet) -> None:
    fleet.on("ai", f"mv /home/ann/chat.jinja /home/ann/gone; systemctl restart {UNIT}; sleep 1; systemctl stop {UNIT}")
    assert "/home/ann/chat.jinja" in fleet.on("ai", f"journalctl -u {UNIT} --no-pager -o cat | grep 'failed to open'")
    fleet.on("ai", f"mv /home/ann/gone /home/ann/chat.jinja; systemctl start {UNIT}")

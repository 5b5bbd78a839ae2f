"""A router that is an account's own service: it runs while nobody is logged in, and after a reboot."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inventory.hardware import PciDevice, VulkanDevice
from inventory.load import load
from lab import hosts as lab_hosts
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn
from tests.unit.roles.small_fleet import Small

pytestmark = turn(2, of=3)

INVENTORY = """
fleet: owned
domain: home.example
networks: [192.0.2.0/24]
hosts:
  halo:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {user: ai-server, models: [demo]}
      watchdog: {every_s: 3600}
models: {demo: {preset: {ctx-size: 512}}}
"""

UNIT = "/etc/systemd/user/llama-server.service"
OWN = "runuser -u ai-server -- env XDG_RUNTIME_DIR=/run/user/$(id -u ai-server) systemctl --user"
QUESTION = '{"model": "demo", "prompt": "Hello", "max_tokens": 4}'
ASK = f"curl -sS http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{QUESTION}'"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("owned")
    with lab_fleet("owned", tmp_path_factory.mktemp("owned"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


def test_the_accounts_own_manager_runs_it_and_no_system_service_does(fleet: LabFleet) -> None:
    assert fleet.on("halo", f"{OWN} is-active llama-server").strip() == "active"
    assert fleet.on("halo", "systemctl list-unit-files --plain --no-legend 'llama-server*' || true") == ""
    assert fleet.on("halo", "stat -c %U /proc/$(pgrep -o -x llama-server)").strip() == "ai-server"
    assert '"text_completion"' in fleet.on("halo", ASK)


def test_its_unit_passes_systemds_own_check_without_a_word_and_names_no_account(fleet: LabFleet) -> None:
    assert fleet.on("halo", f"{OWN.removesuffix('systemctl --user')} systemd-analyze --user verify {UNIT} 2>&1; echo $?").strip() == "0"
    text = fleet.on("halo", f"cat {UNIT} {UNIT}.d/*.conf | grep -vE '^ExecStartPost'")
    assert "User=" not in text and "Group=" not in text and "ai-server" not in text


def test_a_second_run_finds_nothing_to_do(fleet: LabFleet) -> None:
    assert "0 changed" in fleet.up().stdout


def test_a_change_restarts_it_and_a_foreign_stop_is_mended(fleet: LabFleet) -> None:
    before = fleet.on("halo", f"{OWN} show -P InvocationID llama-server")
    fleet.write(INVENTORY.replace("512", "768"))
    fleet.up()
    after = fleet.on("halo", f"{OWN} show -P InvocationID llama-server")
    assert after != before
    fleet.on("halo", f"{OWN} stop llama-server")
    fleet.up()
    assert '"text_completion"' in fleet.on("halo", ASK)


def test_restarted_with_what_somebody_changed_it_is_restarted_with_what_is_declared(fleet: LabFleet) -> None:
    fleet.on("halo", f"sed -i '$a # by hand' {UNIT}; {OWN} daemon-reload; {OWN} restart llama-server")
    by_hand = fleet.on("halo", f"{OWN} show -P InvocationID llama-server")
    fleet.up()
    assert fleet.on("halo", f"{OWN} show -P InvocationID llama-server") != by_hand
    assert "by hand" not in fleet.on("halo", f"cat {UNIT}")
    assert "0 changed" in fleet.up().stdout


def test_a_card_that_is_hidden_from_it_cannot_be_opened_and_its_own_can(fleet: LabFleet) -> None:
    """With two devices in the place of cards: the nodes are null's and zero's."""
    small = Small()
    small.roles["ai"]["llama_cpp"] = {"accelerator": "vulkan"}
    small.roles["ai"]["llama_server"] = {"user": "a", "instances": {"chat": {"model": "demo", "listen": "127.0.0.1:8090", "gpus": [1]}}}
    cards = tuple(PciDevice(f"0000:0{number}:00.0", "1002", "744c") for number in (1, 2))
    small.hardware = replace(small.hardware, gpus=cards, vulkan=(VulkanDevice("Radeon", "radv", "discrete", "1.4.305"),))
    unit = small.text("ai", "/etc/systemd/user/llama-server-chat.service")
    wanted = [line for line in unit.splitlines() if line.startswith(("PrivateUsers=", "InaccessiblePaths=", "NoNewPrivileges="))]
    assert len(wanted) == 4
    node = "/dev/dri/by-path/pci-0000:0{0}:00.0-render"
    for number, minor in ((1, 3), (2, 5)):
        made = f"mknod -m 666 /dev/dri/renderD12{number} c 1 {minor}; ln -s ../renderD12{number} {node.format(number)}"
        fleet.on("halo", f"mkdir -p /dev/dri/by-path; {made}")
    look = f"for node in {node.format(1)} {node.format(2)}; do (: <$node) 2>/dev/null && echo opened || echo hidden; done; id -un"
    lines = ["[Service]", "Type=oneshot", *wanted, "StandardOutput=file:%h/seen", "ExecStart=/bin/sh /opt/look"]
    fleet.on("halo", f"echo {shlex.quote(look)} >/opt/look; printf '%s\\n' {shlex.join(lines)} >/etc/systemd/user/look.service")
    fleet.on("halo", f"{OWN} daemon-reload; {OWN} start look")
    assert fleet.on("halo", "cat ~ai-server/seen").split() == ["hidden", "opened", "ai-server"]
    assert fleet.on("halo", "runuser -u ai-server sh /opt/look").split() == ["opened", "opened", "ai-server"]


def test_it_is_there_after_a_reboot_without_anybody_logging_in(fleet: LabFleet) -> None:
    inside(fleet.host("halo").container, "systemctl reboot")
    time.sleep(3)
    lab_hosts.up(load(fleet.inventory))
    container = fleet.host("halo").container
    inside(container, "for i in $(seq 100); do curl -fsS 127.0.0.1:8080/health && break; sleep 0.3; done")
    assert '"text_completion"' in inside(container, ASK)
    sessions = inside(container, "loginctl list-sessions --no-legend").splitlines()
    assert not [each for each in sessions if "ai-server" in each and " manager " not in each]


def test_after_a_reboot_the_watchdog_looks_at_it_and_restarts_it_where_it_hangs(fleet: LabFleet) -> None:
    look = "systemctl start paddock-watchdog; systemctl show -P Result paddock-watchdog"
    assert fleet.on("halo", look).strip() == "success"
    before = fleet.on("halo", f"{OWN} show -P InvocationID llama-server")
    fleet.on("halo", f"kill -STOP $({OWN} show -P MainPID llama-server)")
    assert fleet.on("halo", look).strip() == "success"
    assert fleet.on("halo", f"{OWN} show -P InvocationID llama-server") != before
    assert '"text_completion"' in fleet.on("halo", ASK)


def test_when_it_leaves_the_inventory_it_ends_and_the_account_stays(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("user: ai-server, ", ""))
    fleet.up()
    assert fleet.on("halo", f"test ! -e {UNIT} && test ! -e /var/lib/systemd/linger/ai-server && id -un ai-server").strip() == "ai-server"
    assert fleet.on("halo", "stat -c %U /proc/$(pgrep -o -x llama-server)").strip() == "llama-server"

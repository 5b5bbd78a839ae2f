"""Power limits, with a program in place of nvidia-smi that notes how it is called: there is no such card where tests run.

It answers as NVIDIA's does, in the form that its manual gives; whether a real card then draws less, nothing here can say.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import File, Resource, Service
from roles.gpu.plan import ACCOUNTS, LIMITS, POWER_SCRIPT, POWER_UNIT, UNIT, plan
from roles.gpu.settings import GpuSettings

UUIDS = [f"GPU-{number}b0c8f1e-0000-1111-2222-333333333333" for number in (1, 2)]

SMI = """#!/bin/sh
echo "$*" >>{here}/calls
case "$*" in
  --query-gpu=*) while IFS= read -r card; do echo "$card"; done <{here}/cards ;;
  *-pl*) [ ! -e {here}/refuses ] || {{ echo "Setting power limit is not supported for GPU"; exit 1; }}
     sed -i "/^$2/s/^\\([^,]*, [^,]*\\), [^,]*/\\1, $(printf %.2f "$4")/" {here}/cards ;;
  "-pm "*) ;;
  *) exit 9 ;;
esac
"""

CARDS = f"{UUIDS[0]}, 00000000:01:00.0, 180.00, 90.00, 217.00, 180.00\n{UUIDS[1]}, 00000000:0A:00.0, 180.00, 90.00, 217.00, 180.00\n"


def planned(nvidia: dict[str, object], servers: dict[str, object] | None = None) -> dict[str, Resource]:
    roles = {"llama_cpp": {}, "models": {}, "llama_server": servers} if servers else {}
    host = {"name": "pea", "address": "192.0.2.7", "roles": {"gpu": {"nvidia": nvidia}, **roles}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"pea": host}, "models": {"chat": {}}})
    settings = GpuSettings.model_validate({"nvidia": nvidia})
    return {each.id: each for each in plan(Host.model_validate(host), settings, fleet, Knowledge())}


class Machine:
    """The planned script and its limits in a directory, and beside them a nvidia-smi that has two cards."""

    def __init__(self, here: Path, nvidia: dict[str, object]) -> None:
        self.here = here
        resources = planned(nvidia)
        script, limits = resources[f"file:{POWER_SCRIPT}"], resources[f"file:{LIMITS}"]
        assert isinstance(script, File) and isinstance(limits, File)
        (here / "limits").write_bytes(limits.data)
        (here / "power.sh").write_text(script.data.decode().replace(LIMITS, str(here / "limits")).replace("/run/paddock", f"{here}/run"))
        (here / "cards").write_text(CARDS)
        (here / "nvidia-smi").write_text(SMI.format(here=here))
        (here / "nvidia-smi").chmod(0o755)

    def run(self, verb: str) -> tuple[int, str]:
        command = ["/bin/sh", str(self.here / "power.sh"), verb]
        done = subprocess.run(command, env={"PATH": f"{self.here}:/usr/bin:/bin"}, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout.strip() + done.stderr

    @property
    def changes(self) -> list[str]:
        return [call for call in (self.here / "calls").read_text().splitlines() if not call.startswith("--query")]


def test_one_limit_is_set_on_every_card_by_its_uuid_and_read_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"driver": "installed", "power_limit_w": 90})
    assert machine.run("set") == (0, "0000:01:00.0: 90 W\n0000:0a:00.0: 90 W")
    assert machine.changes == ["-pm 1", f"-i {UUIDS[0]} -pl 90", f"-i {UUIDS[1]} -pl 90"]


@pytest.mark.parametrize("name", ["0000:0a:00.0", "0a:00.0", UUIDS[1]])
def test_a_card_is_named_by_its_address_or_its_uuid_and_no_other_is_touched(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, {"power_limit_w": {name: 120}})
    assert machine.run("set") == (0, "0000:0a:00.0: 120 W")
    assert machine.changes == ["-pm 1", f"-i {UUIDS[1]} -pl 120"]


def test_taken_out_each_card_has_its_own_limit_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": 90})
    machine.run("set")
    assert machine.run("back")[0] == 0
    assert machine.changes[3:] == [f"-i {UUIDS[0]} -pl 180.00", f"-i {UUIDS[1]} -pl 180.00", "-pm 0"]


def test_a_card_that_is_named_no_more_has_its_own_limit_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": 90})
    machine.run("set")
    (tmp_path / "limits").write_text(f"{UUIDS[0]} 120\n")  # the new list lands before the unit is restarted
    assert [machine.run(verb)[0] for verb in ("back", "set")] == [0, 0]
    limits = [line.split(", ")[2] for line in (tmp_path / "cards").read_text().splitlines()]
    assert limits == ["120.00", "180.00"]


def test_persistence_alone_touches_no_limit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"persistence": True})
    assert machine.run("set") == (0, "")
    assert machine.changes == ["-pm 1"]


CANNOT = "cannot limit the power of the NVIDIA cards: "


def test_a_limit_that_one_card_does_not_take_changes_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": {UUIDS[0]: 100, "0a:00.0": 60}})
    assert machine.run("set") == (1, f"{CANNOT}0000:0a:00.0 takes between 90 and 217 W, not 60")
    assert machine.changes == ["-pm 1"]


def test_a_card_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": {"0000:07:00.0": 90}})
    code, words = machine.run("set")
    assert code == 1
    assert words.startswith(f"{CANNOT}there is no card 0000:07:00.0, the driver lists {UUIDS[0]} 0000:01:00.0;{UUIDS[1]} 0000:0a:00.0")


def test_a_card_without_a_limit_to_set_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": 90})
    (tmp_path / "cards").write_text(CARDS.replace("180.00, 90.00, 217.00, 180.00", "[N/A], [N/A], [N/A], [N/A]"))
    assert machine.run("set") == (1, f"{CANNOT}0000:01:00.0 has no limit that can be set")


def test_what_nvidia_smi_says_when_it_refuses_is_passed_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"power_limit_w": 90})
    (tmp_path / "refuses").touch()
    assert machine.run("set") == (1, f"{CANNOT}Setting power limit is not supported for GPU")


def test_limits_are_set_after_the_driver_is_ready_and_before_any_server_starts() -> None:
    servers = {"instances": {"chat": {"model": "chat", "listen": "127.0.0.1:8081", "count": 2}}}
    resources = planned({"power_limit_w": 90}, servers)
    power, ready = (resources[f"file:/etc/systemd/system/{unit}"] for unit in (POWER_UNIT, UNIT))
    assert isinstance(power, File) and isinstance(ready, File)
    both = "llama-server-chat-1.service llama-server-chat-2.service"
    assert {f"After={UNIT}", f"Requires={UNIT}", f"Before={both}"} < set(power.data.decode().splitlines())
    assert {f"Before={both}", f"RequiredBy={both}"} < set(ready.data.decode().splitlines())
    assert not [each for each in resources if ACCOUNTS in each]


@pytest.mark.parametrize(("nvidia", "before"), [({"power_limit_w": 90}, f"{UNIT} {POWER_UNIT}"), ({}, UNIT)])
def test_where_servers_are_an_accounts_own_its_manager_waits_for_the_driver(nvidia: dict[str, object], before: str) -> None:
    resources = planned(nvidia, {"models": ["chat"], "user": "ai"})
    waits = resources[f"file:{ACCOUNTS}/40-paddock-gpu.conf"]
    assert isinstance(waits, File)
    assert waits.data.decode().splitlines()[1:] == ["[Unit]", f"After={before}"]
    units = [each.data.decode() for each in resources.values() if isinstance(each, File) and each.path.endswith(".service")]
    assert units and not [text for text in units if "llama-server" in "".join(text.splitlines()[1:])]


def test_a_changed_limit_restarts_the_unit() -> None:
    services = [planned({"power_limit_w": watts})[f"service:{POWER_UNIT}"] for watts in (90, 100)]
    assert all(isinstance(each, Service) for each in services)
    assert services[0].desired["started"] != services[1].desired["started"]


def test_without_a_limit_nothing_is_said_of_power() -> None:
    assert f"service:{POWER_UNIT}" not in planned({})


@pytest.mark.parametrize(
    ("nvidia", "words"),
    [
        ({"power_limit_w": 90, "persistence": False}, "would forget its power limit"),
        ({"power_limit_w": {"3": 90}}, "is not a card"),
        ({"power_limit_w": 5}, "greater than or equal to 10"),
        ({"power_limit_w": {}}, "names no card"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_looks(nvidia: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GpuSettings.model_validate({"nvidia": nvidia})

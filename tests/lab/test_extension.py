"""What somebody adds is all in one place: a kind of resource is two files and a name, a role its folder, its templates and a name.

Here are both, in a copy of the product, from `check` to `teardown` on two lab hosts. And how often that copy makes its plans.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.extended import Extended, extended
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

HOSTS = """
fleet: extension
domain: home.example
networks: [192.0.2.0/24]
defaults:
  roles: {base: {}}
hosts:
  ai:
    address: 192.0.2.10
  door:
    address: 192.0.2.11
"""

KEY = "net.ipv4.tcp_keepalive_time"
SYSCTL = f"sysctl:{KEY}"
PLAIN = HOSTS.partition("  door:")[0]
TUNED = f"{PLAIN}    roles:\n      tuning: {{sysctls: {{{KEY}: 600}}}}\n"

RELAYS = """
fleet: extension
domain: home.example
networks: [192.0.2.0/24]
defaults:
  roles: {base: {}}
hosts:
  ai:
    address: 192.0.2.10
    roles:
      relay: {listen: 192.0.2.10:8077, upstream: door}
  door:
    address: 192.0.2.11
    roles:
      relay: {listen: 192.0.2.11:8077}
"""

RELAY_FILES = ("/etc/paddock/relay", "/etc/systemd/system/paddock-relay.service", "/etc/systemd/system/paddock-relay.service.d")


@dataclass(frozen=True)
class Lab:
    fleet: LabFleet
    product: Extended

    def paddock(self, *arguments: str, code: int = 0) -> str:
        """What the extended product says."""
        return said(self.fleet, *arguments, code=code)

    def unextended(self, *arguments: str, code: int = 0) -> str:
        """What the product says that knows nothing of the extension."""
        return said(replace(self.fleet, product=LabFleet.product), *arguments, code=code)

    def on(self, host: str, script: str) -> str:
        return inside(self.fleet.host(host).container, script).strip()

    def parameter(self) -> str:
        return self.on("ai", f"cat /proc/sys/{KEY.replace('.', '/')}")


def said(fleet: LabFleet, *arguments: str, code: int) -> str:
    done = fleet.paddock(*arguments)
    print(f"$ paddock {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    product = extended(tmp_path_factory.mktemp("extended") / "product")
    product.count("roles/host_plan.py", "host_plan")
    product.count("control/deployment/knowledge.py", "knowledge_for")
    product.count("inventory/compose.py", "compose")
    with lab_fleet("extension", tmp_path_factory.mktemp("extension"), HOSTS) as fleet:
        fleet.product = product.root
        yield Lab(fleet, product)


def test_all_that_is_added_are_the_files_of_one_kind_and_of_two_roles_and_their_names(lab: Lab) -> None:
    places = {name.rpartition("/")[0] for name in lab.product.added if name.startswith(("roles/", "templates/"))}
    assert places == {"roles/tuning", "roles/relay", "templates/relay"}
    assert [name for name in lab.product.added if name.startswith("resources/")] == ["resources/sysctl.py", "resources/sysctl.sh"]
    assert lab.product.changed == ("resources/__init__.py", "roles/__init__.py")


def test_a_new_kind_of_resource_is_planned_put_shown_mended_verified_noted_and_taken_away(lab: Lab) -> None:
    lab.fleet.write(TUNED)
    before = lab.parameter()
    assert before not in ("600", "900", "")

    assert "no errors. fleet extension" in lab.paddock("check")
    assert f"  ~ {SYSCTL}  value {before} → 600" in lab.paddock("plan", "--lab", code=3)
    assert "checks passed" in lab.paddock("up", "--lab", "--yes")
    assert lab.parameter() == "600"
    assert f"kept {SYSCTL}" in lab.on("ai", "cat /var/lib/paddock/manifest").splitlines()
    assert " 0 changed" in lab.paddock("up", "--lab", "--yes")
    assert line_of(SYSCTL, lab.paddock("status", "--lab")).split() == [SYSCTL, "600", "as", "declared"]
    assert " FAILED" not in lab.paddock("verify", "--lab")

    lab.on("ai", f"sysctl -qw {KEY}=900")
    assert f"  ~ {SYSCTL}  value 900 → 600" in lab.paddock("plan", "--lab", code=3)
    assert f"ai: {SYSCTL}\n      value is 900, not 600" in lab.paddock("verify", "--lab", code=1)
    lab.paddock("up", "--lab", "--yes", "--no-verify")
    assert lab.parameter() == "600"

    # A Paddock that does not know the kind: an older one, say.
    lab.fleet.write(PLAIN)
    assert f"- {SYSCTL}" not in lab.unextended("up", "--lab", "--yes")
    assert lab.parameter() == "600"
    assert f"- {SYSCTL}" not in lab.unextended("teardown", "--lab", "--yes")
    assert lab.parameter() == "600"
    assert lab.on("ai", "cat /var/lib/paddock/manifest") == f"kept {SYSCTL}"

    left = lab.paddock("teardown", "--lab", "--yes")
    assert f"  - {SYSCTL}  (what was there before comes back)" in left
    assert lab.parameter() == before
    assert lab.on("ai", "find /var/lib/paddock /run/paddock -type f ! -name lock 2>/dev/null || true") == ""


@dataclass(frozen=True)
class First:
    """The first run on hosts that have nothing of Paddock's: what `plan` said before, what `up` said, and what it called."""

    planned: str
    done: str
    calls: Counter[str]


@pytest.fixture(scope="module")
def first(lab: Lab) -> First:
    lab.fleet.write(RELAYS)
    lab.paddock("teardown", "--lab", "--yes")
    shutil.rmtree(lab.fleet.state, ignore_errors=True)
    for host in ("ai", "door"):
        lab.on(host, "userdel --remove relay 2>/dev/null || true")
    missing = lab.paddock("plan", "--lab", code=1)
    assert "ai: roles.relay.account: there is no account relay with a group of its own name on this host" in missing
    lab.paddock("lab", "up")  # which makes the accounts that a fleet's roles need
    planned = lab.paddock("plan", "--lab", code=3)
    shutil.rmtree(lab.fleet.state)
    lab.product.counted()
    done = lab.paddock("up", "--lab", "--yes")
    return First(planned, done, lab.product.counted())


@pytest.fixture(scope="module")
def later(lab: Lab, first: First) -> dict[str, Counter[str]]:
    """Verb → what it called on hosts that are as declared."""
    lab.fleet.write(RELAYS)
    lab.paddock("up", "--lab", "--yes")
    calls = {}
    for verb, *arguments in (("plan",), ("up", "--yes"), ("verify",)):
        lab.product.counted()
        lab.paddock(verb, "--lab", *arguments)
        calls[verb] = lab.product.counted()
    return calls


def test_a_plan_is_made_once_for_each_host_and_state_of_knowledge(first: First, later: dict[str, Counter[str]]) -> None:
    assert first.calls["knowledge_for extension-lab"] == 2, "one with the hardware, one with the keys that were issued"
    assert plans(first.calls) == {"host_plan ai": 2, "host_plan door": 2}
    for calls in later.values():
        assert calls["knowledge_for extension-lab"] == 1
        assert plans(calls) == {"host_plan ai": 1, "host_plan door": 1}


def test_a_command_reads_its_inventory_once(first: First, later: dict[str, Counter[str]]) -> None:
    assert {verb: calls["compose"] for verb, calls in {"first": first.calls, **later}.items()} == dict.fromkeys(("first", *later), 1)


def test_a_new_role_works_in_every_verb(lab: Lab, first: First) -> None:
    lab.fleet.write(RELAYS.replace("upstream: door", "upstream: dor"))
    line, column = place_of("dor}", lab.fleet.inventory)
    words = 'hosts.ai.roles.relay.upstream: no other host with a relay is called "dor" (did you mean "door"?)'
    assert lab.paddock("check", code=2).splitlines() == [f"{lab.fleet.inventory}:{line}:{column}: {words}"]
    lab.fleet.write(RELAYS)
    assert "no errors. fleet extension" in lab.paddock("check")

    for shown in ("  ~ key of ai's relay: there is none yet", "  + file:/etc/paddock/relay/upstream-key  (secret)"):
        assert shown in first.planned.splitlines()
    assert first.done.count("  yes\n") == 2
    lab.paddock("up", "--lab", "--yes")
    for host in ("ai", "door"):
        assert lab.on(host, "ss -Hltn 'sport = :8077'").split()[3] == f"{lab.fleet.host(host).address}:8077"
        assert lab.on(host, "ps -o user= -C python3") == "relay"
    key = lab.on("ai", "cat /etc/paddock/relay/upstream-key")
    assert key.startswith("sk-")
    assert key == lab.on("door", "cat /etc/paddock/relay/key")

    lab.on("door", "systemctl stop paddock-relay.service")
    failed = lab.paddock("verify", "--lab", code=1)
    assert "  ai: relay answers those that show its key\n      502 " in failed
    assert "  door: relay refuses everybody else\n      000\n" in failed

    rehearsed = lab.paddock("rehearse").splitlines()
    assert f"  ai: relay.listen is {lab.fleet.host('ai').address}:8077 in place of 192.0.2.10:8077." in rehearsed
    assert "  ~ service:paddock-relay.service  (starts)" in rehearsed
    assert [line.split()[-1] for line in rehearsed if line.startswith(("ai  ", "door  "))] == ["yes", "yes"], "both are verified"
    assert key not in first.planned + first.done + failed + "".join(rehearsed)

    assert "  - service:paddock-relay.service" in lab.paddock("teardown", "--lab", "--yes").splitlines()
    for host in ("ai", "door"):
        assert lab.on(host, f"ls -d {' '.join(RELAY_FILES)} /var/lib/paddock 2>/dev/null || true") == ""
        assert lab.on(host, "ss -Hltn 'sport = :8077'") == ""
    assert lab.on("ai", "id -u relay"), "the account was there before Paddock"


def plans(calls: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in calls.items() if name.startswith("host_plan ")}


def line_of(resource: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(f"{resource} "))


def place_of(text: str, file: Path) -> tuple[int, int]:
    """Line and column of the first place where it stands, both from 1."""
    number, line = next((number, line) for number, line in enumerate(file.read_text().splitlines(), 1) if text in line)
    return number, line.index(text) + 1

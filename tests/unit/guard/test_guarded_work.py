"""What of a run's changes a host keeps, to put it back, and what it refuses to begin."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import control.deployment.guard as module
from cli.views.switches import as_data, switches
from control.deployment.guard import Switch, guard_of, in_the_way, irreversible, words_of
from control.deployment.remaining import remains
from control.deployment.work import Work
from control.state.fleet import FleetState
from deploys.converge import _removals, _steps
from inventory.errors import PaddockError
from resources import Directory, File, Release, Releases, Resource, Service
from resources.base import Origin
from resources.drift import drift
from resources.guard import Guard, TakenBack, Waiting, taken_back_words
from resources.history import HostEntry, Line
from resources.leaving import AT_ONCE
from resources.probe import Actual, actual_of

RELEASE = Release(
    "/opt/paddock/llama.cpp/releases/0.3.36-new",
    current="/opt/paddock/llama.cpp/current",
    version="0.3.36",
    fingerprint="new",
    source="sdist",
    options=(),
    targets=(),
    packages=(),
)
UNIT = File("/etc/systemd/system/llama-server.service", "[Service]\n")
PRESETS = File("/etc/paddock/llama-server/presets.ini", "ctx-size = 512\n")
KEY = File("/etc/paddock/llama-server/key", "secret\n", mode=0o600, secret=True)
SERVER = Service("llama-server.service", restarts=(RELEASE, UNIT, PRESETS, KEY), answers="true")
CHAIN = File("/etc/paddock/http-tunnel/certificate.pem", "-----BEGIN CERTIFICATE-----\n")
PINS = File("/etc/paddock/http-tunnel/server.pins", "0123\n")
WORKER = Service("paddock-rpc-worker.service", restarts=(RELEASE,))
SITES = File("/etc/caddy/paddock/sites.caddy", "ai.home.example\n")
DOOR = Service("caddy.service", restarts=(SITES,))
GATEWAY = File("/etc/systemd/system/paddock-gateway.service", "[Service]\n")

PLAN: dict[str, tuple[Resource, ...]] = {
    "llama_cpp": (RELEASE,),
    "rpc_worker": (WORKER.stamp, WORKER),
    "llama_server": (Directory("/etc/paddock/http-tunnel"), CHAIN, PINS, KEY, UNIT, PRESETS, SERVER.stamp, SERVER),
    "gateway": (GATEWAY,),
    "caddy": (SITES, DOOR.stamp, DOOR),
}
OLD = {RELEASE.id: {"fingerprint": "old", "current": "/opt/paddock/llama.cpp/releases/0.3.35-old"}}
GUARD = Guard("run-1", 300, "the switch from 0.3.35-old to 0.3.36-new")


def work(*, manifest: Mapping[str, Origin] | None = None, waits: Waiting | None = None, **found: Mapping[str, str]) -> Work:
    actual = Actual(resources={**OLD, **found}, manifest=manifest or {}, waiting=waits)
    return Work(PLAN, actual, drift(PLAN, actual), payload={RELEASE.id: Path("/none")}, trials={RELEASE.id: b""})


def test_old_releases_that_stay_until_the_switch_is_confirmed_are_no_failure_of_it() -> None:
    """A host has as many as it keeps, and each upgrade lays one more beside them."""
    place = Releases("/opt/paddock/llama.cpp/releases", most=3)
    plan = {"llama_cpp": (place, RELEASE)}
    there = {RELEASE.id: dict(RELEASE.desired), place.id: {**place.desired, "spare": "0.3.30-aa"}}

    def switched(**found: Mapping[str, str]) -> Work:
        actual = Actual(resources={**there, **found}, manifest={})
        return Work(plan, actual, drift(plan, actual), payload={}, trials={})

    assert not remains(switched(), guarded=True) and remains(switched(), guarded=False)
    assert remains(switched(**{RELEASE.id: OLD[RELEASE.id]}), guarded=True)


def test_what_a_release_and_its_servers_read_is_kept_but_no_secret_and_nothing_that_lets_anybody_in() -> None:
    kept = work().kept
    assert kept.paths == (RELEASE.current, UNIT.path, PRESETS.path, SERVER.stamp.path)
    assert kept.units == (WORKER.unit, SERVER.unit), "a worker runs the release that is put back"


def test_every_command_of_the_switch_begins_with_what_is_kept_and_ends_with_the_time_anew() -> None:
    lies = {RELEASE.id: {"fingerprint": RELEASE.fingerprint, "current": OLD[RELEASE.id]["current"]}}
    guarded = replace(work(**lies), guard=GUARD)
    for role, phase in (("llama_cpp", "files"), ("llama_server", "files"), ("llama_server", "services"), ("rpc_worker", "services")):
        calls = _steps(role, guarded, phase).calls  # type: ignore[arg-type]
        assert calls[0].startswith("guard_arm 300 run-1 'the switch from 0.3.35-old to 0.3.36-new' /opt/paddock/llama.cpp/current "), role
        assert calls[0].endswith(f" -- {WORKER.unit} {SERVER.unit}") and calls[-1] == "guard_extend 300 run-1"
    for role in ("caddy", "gateway"):
        assert not any(call.startswith("guard_") for call in _steps(role, guarded, "files").calls)
    assert not any(call.startswith("guard_") for call in _steps("llama_cpp", replace(guarded, guard=None), "files").calls)


def test_a_role_with_nothing_to_do_does_not_arm() -> None:
    there = {each.id: each.desired for part in PLAN.values() for each in part if not isinstance(each, Release)}
    assert not _steps("llama_server", replace(work(**there), guard=GUARD), "files")


def test_old_packages_stay_until_the_switch_is_confirmed_and_nothing_else_may_leave_in_its_run() -> None:
    packages: dict[str, Origin] = {"package:libold": "put"}
    assert list(irreversible(work(manifest=packages))) == []
    assert _removals(work(manifest=packages), AT_ONCE)
    units: dict[str, Origin] = {"service:llama-server-other.service": "put", "file:/etc/systemd/system/llama-server-other.service": "put"}
    refused = in_the_way(work(manifest=units), GUARD)
    assert "llama-server-other.service and 1 more left the inventory: let `paddock up` do that before the version changes" in refused
    assert in_the_way(work(manifest=units), None) == ""


def test_a_new_rule_of_the_firewall_is_no_part_of_a_switch() -> None:
    plan = {**PLAN, "firewall": (File("/etc/paddock/firewall/paddock.nft", "rules\n"),)}
    found = Work(plan, Actual(resources=OLD), drift(plan, Actual(resources=OLD)))
    assert list(irreversible(found)) == ["file:/etc/paddock/firewall/paddock.nft changes, and rules of the firewall are not taken back"]


def test_a_run_beside_a_switch_that_waits_is_told_of_it_and_the_same_switch_goes_on() -> None:
    waits = Waiting("run-0", GUARD.words, 120)
    assert "waits for its confirmation, and is taken back at " in in_the_way(work(waits=waits), None)
    assert "Nothing was changed there" in in_the_way(work(waits=waits), Guard("run-1", 300))
    again = guard_of(work(waits=waits), "run-1", 300)
    assert again == Guard("run-0", 300, GUARD.words) and in_the_way(work(waits=waits), again) == ""


def test_a_rerun_that_finds_the_release_switched_goes_on_with_what_waits() -> None:
    waits, there = Waiting("run-0", GUARD.words, 120), {RELEASE.id: RELEASE.desired}
    assert guard_of(work(waits=waits, **there), "run-1", 300) == Guard("run-0", 300, GUARD.words)


def test_another_switch_does_not_go_on_with_it() -> None:
    waits = Waiting("run-0", "the switch from 0.3.35-old to 0.3.34-other", 120)
    assert guard_of(work(waits=waits), "run-1", 300) == GUARD


def test_a_host_on_which_nothing_can_be_taken_back_has_no_guard() -> None:
    there = {each.id: each.desired for role, part in PLAN.items() if role != "caddy" for each in part}
    assert guard_of(work(**there), "run-1", 300) is None


def test_a_switch_is_told_by_its_releases_or_by_what_restarts() -> None:
    assert words_of(work()) == GUARD.words
    assert words_of(work(**{RELEASE.id: RELEASE.desired})) == "the change of llama-server.service"


@pytest.mark.parametrize(("id", "deadline_s"), [("", 1), ("../x", 1), ("a b", 1), ("A", 1), ("a" * 65, 1), ("a", 0)])
def test_a_guard_has_a_name_that_is_a_directorys_and_time(id: str, deadline_s: int) -> None:
    with pytest.raises(ValueError, match="no name of a switch, or no time"):
        Guard(id, deadline_s)


def answered(*lines: str) -> Actual:
    return actual_of(["#m", *lines, "#m end"], [])


def test_what_a_host_says_of_its_switches_is_read_or_refused() -> None:
    actual = answered("#m guard", "id\trun-1", "words\tthe \x1bswitch", "left\t12", "#m taken_back")
    assert actual.waiting == Waiting("run-1", "the \\x1bswitch", 12)
    told = ("#m taken_back", "id\trun-0", "words\tit", "at\t60", "why\tnobody", "unwell\ta.service b.service")
    assert answered(*told).taken_back == TakenBack("run-0", "it", 60, "nobody", ("a.service", "b.service"))
    assert answered().waiting is None and answered().taken_back is None
    with pytest.raises(ValueError, match="names no switch"):
        answered("#m guard", "id\t../../etc", "words\t", "left\t1")


def test_plan_and_status_show_what_waits_and_what_was_taken_back() -> None:
    actual = Actual(waiting=Waiting("run-1", "the switch", 60), taken_back=TakenBack("run-0", "the switch", 0, "nobody", ("a.service",)))
    waiting, taken = switches(actual)
    assert "  the switch waits for its confirmation, and is taken back at " in waiting
    assert ": nobody; a.service does not run since: /var/lib/paddock/evidence/run-0 there says more" in taken
    assert as_data(actual)["waiting"] == {"id": "run-1", "words": "the switch", "left_s": 60}
    assert not list(switches(Actual())) and as_data(Actual()) == {}
    assert "a day that no calendar has" in taken_back_words(TakenBack("a", "it", 1 << 60, "why"))


def packed(**files: bytes) -> str:
    said = io.BytesIO()
    with tarfile.open(fileobj=said, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("./link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(link)
    return base64.encodebytes(said.getvalue()).decode()


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """What the host is asked to do; it answers this."""
    asked: list[str] = []

    def said_alone(run: Any, host: str, call: str) -> list[str]:
        asked.append(call)
        return text.splitlines()

    monkeypatch.setattr(module, "said_alone", said_alone)
    return asked


SWITCH = Switch(None, "ai", GUARD)  # type: ignore[arg-type]


def test_what_a_host_has_collected_lands_in_the_state_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "./changed": b"what\n",
        "./../../escaped": b"no\n",
        "/etc/escaped": b"no\n",
        "./llama-server.service.journal": b"x" * 9000,
    }
    says(monkeypatch, packed(**files))
    state = FleetState.of(tmp_path / "home.yml", "home")
    fetched = SWITCH.evidence(state)
    assert fetched.name == "ai-run-1"
    assert {path.name: path.stat().st_size for path in fetched.iterdir()} == {"changed": 5, "llama-server.service.journal": 9000}
    assert not list(tmp_path.rglob("escaped"))
    for nonsense in ("nonsense", packed(**{"./changed": bytes(17 << 20)})):
        says(monkeypatch, nonsense)
        with pytest.raises(PaddockError, match="ai: what it has collected of the switch run-1"):
            SWITCH.evidence(state)
    says(monkeypatch, "nonsense")
    with pytest.raises(PaddockError, match="ai: what it has collected of the switch run-1 cannot be read"):
        SWITCH.evidence(state)


def test_the_control_machine_asks_in_words_that_a_shell_takes_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "id\trun-1\nwords\tit\nat\t60\nwhy\tit's\nunwell\t\n")
    had = Line(3, "done", datetime(2026, 11, 30, tzinfo=UTC), "upgrade", "home", "0.3.36-8a2b", "ada@desk", "5d41402abc4b2a76")
    SWITCH.extend()
    SWITCH.extend(30)
    SWITCH.confirm()
    SWITCH.confirm(HostEntry(had, gone=(1, 2)))
    taken = SWITCH.take_back("it's\nslow; $(reboot)", "answer")
    assert asked == [
        "guard_extend 300 run-1",
        "guard_extend 30 run-1",
        "guard_confirm run-1",
        # Both at once: a run that is killed between the two would leave a host that cannot roll forward to it.
        f"guard_confirm run-1\nhistory_line '{had.text}' 1 2",
        "guard_take_back run-1 'it'\"'\"'s slow; $(reboot)' YW5zd2Vy",
    ]
    assert taken == TakenBack("run-1", "it", 60, "it's")
    says(monkeypatch, "")
    assert SWITCH.take_back("why", "") is None, "nothing had been changed"

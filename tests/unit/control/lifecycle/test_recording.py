"""Of what a run leaves behind, and that keeping it stops no run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from control.deployment.deployment import Deployment  # isort: skip - first of all, for gevent
from control.deployment.work import Work
from control.lifecycle.history import History
from control.lifecycle.recorded_plans import as_data, plan_digest
from control.lifecycle.recording import Recording, recording
from control.lifecycle.records import RecordedChange
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from resources import File, Package, Release, Resource
from resources.drift import drift
from resources.probe import Actual

ROOT = Path(__file__).parents[4]
KEY = File("/etc/x/key", "sk-never-to-be-seen", mode=0o600, secret=True)
MOTD = File("/etc/motd", "hello\n")
OLD, NEW = "0.3.35-1", "0.3.36-2"
CURRENT = "/opt/paddock/llama.cpp/current"
RELEASE = Release(f"/opt/paddock/llama.cpp/releases/{NEW}", CURRENT, "0.3.36", "2", "sdist", (), ("llama-server",), ())
PLAN: Mapping[str, tuple[Resource, ...]] = {"base": (Package("curl"), MOTD, KEY), "llama_cpp": (RELEASE,)}

Deployed = Callable[..., Deployment]


@pytest.fixture
def inventory(state: FleetState) -> Path:
    state.inventory.write_text("fleet: home\n")
    return state.inventory


@pytest.fixture
def deployed(state: FleetState, fleet_of: Callable[..., Fleet]) -> Deployed:
    """A deployment that has looked at hosts where another text, key and release are."""

    def deploy(*names: str, **how: Any) -> Deployment:
        fleet = fleet_of(hosts={name: {"name": name, "address": f"192.0.2.{at}", "roles": {}} for at, name in enumerate(names, 1)})
        deployment = Deployment(fleet, state, tuple(fleet.hosts.values()), **how)
        there = {each.id: {**each.desired, "sha256": "f" * 64} for each in (MOTD, KEY)}
        there[RELEASE.id] = {"fingerprint": "1", "current": f"/opt/paddock/llama.cpp/releases/{OLD}"}
        actual = Actual(there, manifest=dict.fromkeys(there, "put"))
        deployment.work = {name: Work(PLAN, actual, drift(PLAN, actual)) for name in names}
        return deployment

    return deploy


@pytest.mark.usefixtures("inventory")
def test_a_run_that_changes_nothing_leaves_no_record(state: FleetState) -> None:
    with recording(state, "up", pytest.fail):
        pass
    assert not (state.path / "history").exists()


@pytest.mark.usefixtures("inventory")
def test_the_record_says_what_was_changed_by_whom_and_how_it_ended(state: FleetState, deployed: Deployed) -> None:
    with recording(state, "up", pytest.fail) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
        assert History(state).record(1).outcome is None
        record.verified["ai"] = "yes"
        record.figures["ai"] = {"tokens_per_s": 30.5}
    found = History(state).record(1)
    assert (found.number, found.verb, found.outcome, record.number) == (1, "up", "done", 1)
    assert "@" in found.who and found.inventory == str(state.inventory) and len(found.digest) == 64
    assert found.ended and found.ended >= found.began
    (host,) = found.hosts.values()
    assert [(each.sign, each.action, each.resource) for each in host.changes] == [
        ("+", "put", "package:curl"),
        ("~", "mend", "file:/etc/motd"),
        ("~", "mend", "file:/etc/x/key"),
        ("~", "mend", f"release:{CURRENT}"),
    ]
    assert host.changes[1].attributes == {"sha256": ("f" * 64, MOTD.sha256)}
    assert (host.before, host.after, host.verified, host.figures) == (OLD, NEW, "yes", {"tokens_per_s": 30.5})
    assert History(state).plans(1) == {"ai": as_data(PLAN)} and host.plan == plan_digest(as_data(PLAN))


@pytest.mark.usefixtures("inventory")
def test_no_secret_is_in_the_history_nor_its_digest(state: FleetState, deployed: Deployed) -> None:
    with recording(state, "up", pytest.fail) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
    (found,) = History(state).plans(1).values()
    texts = (state.path / "history" / "000001.json").read_text() + str(found)
    assert "sk-never" not in texts and KEY.sha256 not in texts
    assert History(state).record(1).hosts["ai"].changes[2].attributes == {}


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize(
    ("raised", "outcome", "failed"),
    [(PaddockError("no space"), "failed", "no space"), (KeyboardInterrupt(), "interrupted", ""), (KeyError("x"), "failed", "KeyError")],
)
def test_what_ends_a_run_is_its_outcome(state: FleetState, deployed: Deployed, raised: BaseException, outcome: str, failed: str) -> None:
    with pytest.raises(type(raised)), recording(state, "up", pytest.fail) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
        raise raised
    found = History(state).record(1)
    assert (found.outcome, found.failed) == (outcome, failed)
    assert found.hosts["ai"].after == "", "nobody can tell what serves"


@pytest.mark.usefixtures("inventory")
def test_a_host_that_failed_is_told_also_where_nothing_was_changed(state: FleetState, deployed: Deployed) -> None:
    with recording(state, "up", pytest.fail) as record:
        deployment = deployed("ai", "pi")
        deployment.run.failures["pi"] = "does not answer"
        record.opens(deployment, {"ai": deployment.work["ai"]})
    found = History(state).record(1)
    assert found.outcome == "failed"
    assert (found.hosts["pi"].failed, found.hosts["pi"].changes, found.hosts["ai"].failed) == ("does not answer", (), "")


@pytest.mark.usefixtures("inventory")
def test_a_check_that_failed_makes_it_a_failure_and_what_was_taken_back_stays_so(state: FleetState, deployed: Deployed) -> None:
    for outcome in (None, "taken back"):
        with recording(state, "upgrade", pytest.fail) as record:
            deployment = deployed("ai")
            record.opens(deployment, deployment.work)
            record.verified["ai"], record.outcome, record.releases = "FAILED", outcome, {"ai": OLD} if outcome else {}
    assert [(each.outcome, each.hosts["ai"].after) for each in History(state).newest(pytest.fail)] == [("taken back", OLD), ("failed", NEW)]


@pytest.mark.usefixtures("inventory")
def test_hosts_that_come_later_are_added_with_their_plans(state: FleetState, deployed: Deployed) -> None:
    with recording(state, "upgrade", pytest.fail) as record:
        deployment = deployed("ai", "pi")
        for name in ("ai", "pi"):
            record.opens(deployment, {name: deployment.work[name]})
            assert name in History(state).plans(1)
    assert list(History(state).record(1).hosts) == ["ai", "pi"] == list(History(state).plans(1))


@pytest.mark.usefixtures("inventory")
def test_the_plan_that_landed_is_kept_where_it_was_made_anew_meanwhile(state: FleetState, deployed: Deployed) -> None:
    newer = {**PLAN, "base": (*PLAN["base"], File("/etc/caddy/revoked", "phone"))}
    with recording(state, "up", pytest.fail) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
        deployment.work["ai"] = Work(newer, deployment.work["ai"].actual, deployment.work["ai"].drift)
    assert History(state).plans(1) == {"ai": as_data(newer)}
    assert History(state).record(1).hosts["ai"].plan == plan_digest(as_data(newer))


@pytest.mark.usefixtures("inventory")
def test_what_is_done_by_no_plan_is_a_change_too(state: FleetState) -> None:
    with pytest.raises(PaddockError), recording(state, "restart", pytest.fail) as record:
        for host in ("ai", "pi"):
            record.adds(host, RecordedChange("restart", "service:llama-server.service"))
            with record.failing(host):
                if host == "pi":
                    raise PaddockError("does not start")
    found = History(state).record(1)
    assert [(host, len(each.changes), each.plan, each.failed) for host, each in found.hosts.items()] == [
        ("ai", 1, "", ""),
        ("pi", 1, "", "does not start"),
    ]


@pytest.mark.usefixtures("inventory")
def test_a_run_goes_on_where_no_record_can_be_kept_and_says_so_once(state: FleetState, deployed: Deployed) -> None:
    told: list[str] = []
    (state.directory() / "history").write_text("no directory")
    with recording(state, "up", told.append) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
    assert record.number is None
    assert told and len(told) == len(set(told)) and all(each.startswith("the run goes on, but its record is not whole: ") for each in told)


@pytest.mark.usefixtures("inventory")
def test_a_record_that_had_no_room_at_first_is_kept_whole_at_the_end(state: FleetState, deployed: Deployed) -> None:
    (state.directory() / "history").write_text("no directory")
    with recording(state, "up", lambda words: None) as record:
        deployment = deployed("ai")
        record.opens(deployment, deployment.work)
        (state.path / "history").unlink()
    assert History(state).record(1).outcome == "done" and list(History(state).plans(1)) == ["ai"]


def test_a_run_that_is_killed_leaves_a_record_that_has_not_ended(state: FleetState, inventory: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from control.lifecycle.recording import recording
from control.lifecycle.records import RecordedChange
from control.state.fleet import FleetState
with recording(FleetState.of(Path({str(inventory)!r}), "home"), "restart", print) as record:
    record.adds("ai", RecordedChange("restart", "service:llama-server.service"))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    found = History(state).record(1)
    assert (found.ended, found.outcome, list(found.hosts)) == (None, None, ["ai"])


def test_a_deployment_tells_before_it_changes_a_host(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    deployment = deployed("ai", changing=lambda of, works: order.append(f"told of {', '.join(works)}"))
    monkeypatch.setattr(deployment.run, "carry_out", lambda *_: order.append("carried out"))
    deployment.carry({})
    deployment.carry(deployment.work)
    assert order == ["carried out", "told of ai", "carried out"]


def test_a_recording_that_was_never_opened_has_no_number(state: FleetState) -> None:
    record = Recording(state, "up", pytest.fail)
    record.closes()
    assert record.number is None and not state.path.exists()

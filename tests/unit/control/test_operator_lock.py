from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control.state.fleet import FleetState
from control.state.lock import ENDED_MOST, operator_lock
from inventory.errors import PaddockError

HOLD = """
import sys
from pathlib import Path
from control.state.lock import operator_lock
from control.state.fleet import FleetState
with operator_lock(FleetState.of(Path(sys.argv[1]), "home"), "up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(inventory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(inventory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_second_operator_is_told_at_once_who_holds_it(state: FleetState) -> None:
    with holder(state.inventory) as process:
        with (
            pytest.raises(PaddockError, match=rf"fleet home: locked by \S+@\S+ since \d\d:\d\d \(up, pid {process.pid}\)"),
            operator_lock(state, "teardown"),
        ):
            pass
        process.communicate("")
    with operator_lock(state, "teardown"):
        pass


def test_a_killed_holder_leaves_no_lock(state: FleetState) -> None:
    with holder(state.inventory) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with operator_lock(state, "up"):
        assert str(os.getpid()) in (state.path / "lock").read_text()


def test_a_failed_run_lets_go(state: FleetState) -> None:
    with pytest.raises(ZeroDivisionError), operator_lock(state, "up"):
        raise ZeroDivisionError
    with operator_lock(state, "up"):
        pass
    assert "pid" not in (state.path / "lock").read_text()


def test_what_a_killed_run_had_begun_to_write_is_deleted_by_a_later_one(state: FleetState) -> None:
    """It may be a key in the clear."""
    exported = state.directory("export", "laptop")
    left, at_work, own = exported / ".k3x9ab_q.tmp", exported / ".q2m4zz_a.tmp", exported / "laptop.tmp"
    for each in (left, at_work, own):
        each.write_text("-----BEGIN PRIVATE KEY-----")
    for each in (left, own):
        os.utime(each, (0, 0))
    with operator_lock(state, "up"):
        assert [each.name for each in sorted(exported.iterdir())] == [at_work.name, own.name]


def test_a_child_that_outlives_the_run_does_not_keep_the_lock(state: FleetState) -> None:
    with operator_lock(state, "up"):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        with operator_lock(state, "up"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_two_fleets_do_not_wait_for_each_other(state: FleetState, tmp_path: Path) -> None:
    with operator_lock(state, "up"), operator_lock(FleetState.of(tmp_path / "home.yml", "office"), "up"):
        pass


# Whose leases on hosts are known to be dead ones


def killed(inventory: Path) -> str:
    """The id of a run that was killed while it held the lock."""
    with holder(inventory) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return str(json.loads((FleetState.of(inventory, "home").path / "lock").read_text())["run"])


def test_the_runs_that_held_it_before_are_known_to_have_ended(state: FleetState) -> None:
    with operator_lock(state, "up") as first:
        assert first.ended == ()
    second = killed(state.inventory)
    with operator_lock(state, "up") as third:
        assert third.ended == (first.run, second)
    for _ in range(30):
        with operator_lock(state, "up") as last:
            assert last.run not in last.ended and len(last.ended) <= ENDED_MOST


def test_a_copy_of_the_lock_says_nothing_of_the_run_that_may_be_at_work(state: FleetState, tmp_path: Path) -> None:
    killed(state.inventory)
    other = FleetState.of(tmp_path / "copy" / "home.yml", "home")
    shutil.copytree(state.path, other.path)
    with operator_lock(other, "up") as found:
        assert found.ended == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"file": 1}', '{"file": "FILE"}', '{"file": "FILE", "ended": 7}', "[" * 5000])
def test_a_lock_that_says_nothing_of_use_is_taken_all_the_same(state: FleetState, text: str) -> None:
    with operator_lock(state, "up"):
        file = json.loads((state.path / "lock").read_text())["file"]
    (state.path / "lock").write_text(text.replace("FILE", file))
    with operator_lock(state, "up") as found:
        assert found.ended == ()


def test_ids_that_no_run_has_are_left_out(state: FleetState) -> None:
    with operator_lock(state, "up"):
        note = json.loads((state.path / "lock").read_text())
    (state.path / "lock").write_text(json.dumps({**note, "ended": ["x; rm -rf /", 7, "a" * 16], "run": None}))
    with operator_lock(state, "up") as found:
        assert found.ended == ("a" * 16,)


def test_the_lock_of_a_living_run_is_not_stolen(state: FleetState) -> None:
    with (
        holder(state.inventory) as process,
        pytest.raises(PaddockError, match=rf"pid {process.pid}\): wait for it, or stop it \(--steal-lock takes the leases of runs on"),
        operator_lock(state, "up", steals=True),
    ):
        pass

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control.state.fleet import FleetState
from control.state.lock import operator_lock
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
    assert (state.path / "lock").read_text() == ""


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

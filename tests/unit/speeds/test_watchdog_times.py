"""The watchdog's own look at a server's speed, by its script, on a stand-in that says how fast it is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resources import Reached, Speed
from roles.role import render
from roles.speed import CAUSES, TRIAL_TOKENS, TRIALS, long_prompt
from roles.watchdog.settings import WatchdogSettings
from tests.unit.speeds.conftest import Paced

WAY = "5d41402abc4b2a76"
RELEASE = "0.3.36-1f0c8a2b3c4d"
SPEEDS = Speed(60_000, 60_000, 60_000), Speed(6_000, 6_000, 6_000)
KEPT = Reached(RELEASE, WAY, "llama-server.service", "demo", *SPEEDS, 600, 5, datetime(2026, 11, 30, tzinfo=UTC))

Look = Callable[..., str]


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """A look at the server at a socket, with what differs in its functions: what is done about it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "prompt").write_text(long_prompt(None))
    (tmp_path / "speeds").write_text(f"{replace(KEPT, release='0.3.35-aa').text}\n{KEPT.text}\n")
    (tmp_path / "current").symlink_to(f"/opt/releases/{RELEASE}")
    values = {
        "watched": "/dev/null",
        "host": "pea",
        "notify_file": "/dev/null",
        "share": 50,
        "speed_s": 300,
        "speed_wait_s": 5,
        "restart_s": 60,
    }
    trial = {"trials": TRIALS, "trial_tokens": TRIAL_TOKENS, "causes": CAUSES}
    files = {name: str(tmp_path / name) for name in ("prompt", "speeds", "current")}
    script = render("watchdog/watchdog.sh.j2", WatchdogSettings(), **values, **trial, **files)
    functions = script[: script.rindex("case ${1-} in")].replace("/run/paddock/watchdog", f"{tmp_path}/run")
    own = (
        f'manager() {{ echo manager "$@"; }}\ndeploying() {{ false; }}\nway={WAY} characters=2400 key=server name=server model= what=server'
    )
    server = "user=- key_file=- sleeps=no seen=idle\nmanager=\nflock() { [ $# = 3 ] || echo restarted; }"

    def looked(socket: Path, more: str = "") -> str:
        text = f"{functions}\n{own}\nunit=llama-server.service url=unix:{socket} {server}\n{more}\nkey=server:speed\ntime_it\n"
        done = subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    yield looked


def remembered(tmp_path: Path, name: str) -> str:
    path = tmp_path / "run" / f"server:speed.{name}"
    return path.read_text().strip() if path.exists() else ""


def test_one_that_is_fast_is_looked_at_once_in_a_while(tmp_path: Path, paced: Paced, look: Look) -> None:
    socket = paced(requests=1)
    assert [look(socket) for _ in range(3)] == ["", "", ""]
    assert remembered(tmp_path, "looked").isdecimal()


def test_one_below_the_floor_is_restarted_after_three_looks_then_only_told(tmp_path: Path, paced: Paced, look: Look) -> None:
    socket = paced(prompts=20_000)
    words = (
        "server reads 20000 tokens/s of prompts and generates 6000, at best in 3 looks; it reached 60000 and 6000: "
        f"the floor is 50 % of that. The usual causes: {CAUSES}"
    )
    assert [look(socket) for _ in range(TRIALS - 1)] == [""] * (TRIALS - 1)
    assert look(socket).splitlines() == [f"<4>{words}: restarting it", "restarted"]
    assert [look(socket) for _ in range(TRIALS - 1)] == [""] * (TRIALS - 1)
    assert look(socket) == f"<3>{words}, although it was restarted 0 min ago"
    assert remembered(tmp_path, "fault") == f"{words}, although it was restarted 0 min ago"
    assert look(socket) == "", "the next look is due later"


def test_a_fault_ends_with_the_first_look_that_finds_it_fast(tmp_path: Path, paced: Paced, look: Look) -> None:
    (tmp_path / "run" / "server:speed.fault").write_text("server was slow")
    assert look(paced()) == ""
    assert remembered(tmp_path, "fault") == ""


def test_the_best_look_counts(tmp_path: Path, paced: Paced, look: Look) -> None:
    slow = paced(prompts=20_000)
    assert [look(slow), look(slow), look(paced())] == ["", "", ""]
    assert (remembered(tmp_path, "below"), remembered(tmp_path, "restarted")) == ("", "")


def test_a_busy_one_is_not_asked_nor_is_one_beside_a_busy_one(tmp_path: Path, paced: Paced, look: Look) -> None:
    assert look(paced(busy=True, requests=0)) == ""
    (tmp_path / "run" / "other.tokens").write_text("busy 1:2\n")
    assert look(paced(requests=0)) == ""
    assert remembered(tmp_path, "looked") == ""


def test_one_that_was_never_measured_with_this_release_is_not_asked(tmp_path: Path, paced: Paced, look: Look) -> None:
    (tmp_path / "speeds").write_text(f"{replace(KEPT, release='0.3.35-aa').text}\n")
    assert look(paced(requests=0)) == ""


def test_one_that_could_not_end_a_trial_in_time_at_its_floor_is_not_asked(tmp_path: Path, paced: Paced, look: Look) -> None:
    slow = Speed(2, 2, 2)
    (tmp_path / "speeds").write_text(f"{replace(KEPT, prompts=slow).text}\n")
    assert look(paced(requests=0)) == ""


def test_one_that_does_not_end_a_trial_in_time_is_below(tmp_path: Path, paced: Paced, look: Look) -> None:
    assert look(paced(prompts=200), "trial_limit() { echo 1; }") == ""
    assert remembered(tmp_path, "below") == "1 0 0"

"""What is kept of how fast servers were: by release and by the way in which they serve, on the host and in the state."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

import pytest

from control.deployment.verification import keep_found
from control.state import speeds
from control.state.fleet import FleetState
from resources import Reached, Speed, expected, note_sh, reached_of, scripts
from resources.speed import KEPT, with_newer
from verification.speeds import Speeds

WHEN = datetime(2026, 11, 30, 14, 45, 11, 123456, tzinfo=UTC)
FIRST = Reached(
    *("0.3.36-1f0c8a2b3c4d", "5d41402abc4b2a76", "llama-server@a.service", "Qwen_3.5-A3B"),
    *(Speed(1812.4, 1790, 1850.12), Speed(92.1, 91, 93.2), 612, 8, WHEN),
)


def later(release: str, hours: int = 1, prompts: float = 900) -> Reached:
    return replace(FIRST, release=release, at=WHEN + timedelta(hours=hours), prompts=Speed(prompts, prompts, prompts))


def test_a_line_comes_back_as_it_was() -> None:
    assert reached_of([FIRST.text]) == (FIRST,)
    assert FIRST.text.endswith(" 1812.40 1790.00 1850.12 92.10 91.00 93.20 612 8 2026-11-30T14:45:11.123456Z")


@pytest.mark.parametrize(
    "text",
    [
        *("", "\x1b]0;owned\x07", f"{FIRST.text} more", FIRST.text[:-1], "x" * 1_000_000),
        FIRST.text.replace("1812.40", "0.00"),
        FIRST.text.replace("1812.40", "nan"),
        FIRST.text.replace("1812.40", "1e9"),
        FIRST.text.replace("2026-11-30", "2026-13-99"),
        FIRST.text.replace("0.3.36", "../0.3.36"),
    ],
)
def test_what_is_no_line_is_left_out(text: str) -> None:
    assert reached_of([text, FIRST.text]) == (FIRST,)


def test_a_release_has_its_own_again_after_a_rollback() -> None:
    newer = later("0.3.37-aa")
    assert expected([FIRST, newer], FIRST.release, FIRST.mark) == FIRST


def test_one_that_was_never_measured_is_expected_to_be_as_fast_as_the_one_measured_last() -> None:
    newer = later("0.3.37-aa")
    assert expected([newer, FIRST], "0.3.38-bb", FIRST.mark) == newer


def test_of_another_way_to_serve_nothing_is_expected() -> None:
    assert expected([FIRST], FIRST.release, "0" * 16) is None


def test_newer_figures_replace_those_of_the_same_release_and_the_oldest_go() -> None:
    assert with_newer([FIRST, later("b")], [later(FIRST.release)]) == (later("b"), later(FIRST.release))
    assert len(with_newer((later(f"{each}") for each in range(300)), [FIRST])) == KEPT


def shell(tmp_path: Path, script: str) -> str:
    script = script.replace("/var/lib/paddock", f"{tmp_path}/lib").replace("/run/paddock", f"{tmp_path}/run")
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (tmp_path / "lib" / "speeds").read_text()


def test_a_host_keeps_one_line_for_each_release_and_way(tmp_path: Path) -> None:
    assert shell(tmp_path, note_sh([FIRST])) == f"{FIRST.text}\n"
    assert shell(tmp_path, note_sh([later("b"), later(FIRST.release)])) == f"{later('b').text}\n{later(FIRST.release).text}\n"


def test_a_host_keeps_so_many_lines_and_no_more(tmp_path: Path) -> None:
    kept = shell(tmp_path, note_sh(later(f"{each}") for each in range(KEPT + 2))).splitlines()
    assert (len(kept), kept[-1]) == (KEPT, later(f"{KEPT + 1}").text)


def test_what_is_confirmed_is_noted_by_the_functions_of_a_run(tmp_path: Path) -> None:
    script = f"set -eu; stage=; {scripts()}\nspeed_note {quote(FIRST.text)} {quote(later('b').text)}\n"
    assert reached_of(shell(tmp_path, script).splitlines()) == (FIRST, later("b"))


def test_teardown_takes_them_away(tmp_path: Path) -> None:
    shell(tmp_path, note_sh([FIRST]))
    (tmp_path / "run").mkdir(exist_ok=True)
    script = f"set -eu; stage=; {scripts()}\ngone_rest\n"
    for where, there in (("/var/lib/paddock", "lib"), ("/run/paddock", "run")):
        script = script.replace(where, f"{tmp_path}/{there}")
    subprocess.run(["/bin/sh"], input=script, check=True, capture_output=True, text=True)
    assert list((tmp_path / "lib").iterdir()) == []


@pytest.fixture
def state(tmp_path: Path) -> FleetState:
    inventory = tmp_path / "home.yml"
    inventory.touch()
    return FleetState.of(inventory, "home")


def test_the_state_keeps_them_by_host(state: FleetState) -> None:
    assert speeds.kept(state, "pea") == ()
    speeds.keep(state, "pea", [FIRST])
    speeds.keep(state, "bean", [later("b")])
    speeds.keep(state, "pea", [later("b")])
    assert speeds.kept(state, "pea") == (FIRST, later("b"))


def test_a_damaged_note_is_no_error(state: FleetState) -> None:
    speeds.keep(state, "pea", [FIRST])
    (state.path / "speeds" / "pea.txt").write_bytes(b"\xff\xfe nonsense\n")
    assert speeds.kept(state, "pea") == ()


def test_what_a_verification_has_found_is_told_and_kept(state: FleetState, tmp_path: Path) -> None:
    into = tmp_path / "pea.speeds"
    found = Speeds.of({"known": [FIRST.text, "nonsense"], "anew": False, "into": str(into)})
    assert found.known == (FIRST,)
    found.tell("it is busy")
    found.tell("it is busy")
    found.keep(later("b"))
    told: list[str] = []
    keep_found(state, "pea", into, told.append, told.append)
    assert told == ["  pea: it is busy"]
    assert speeds.kept(state, "pea") == (later("b"),)


def test_what_cannot_be_kept_is_told(state: FleetState, tmp_path: Path) -> None:
    into = tmp_path / "pea.speeds"
    Speeds.of({"known": [], "anew": False, "into": str(into)}).keep(FIRST)
    (state.directory() / "speeds").write_text("a file stands there")
    told: list[str] = []
    keep_found(state, "pea", into, told.append, told.append)
    assert len(told) == 1 and "speeds" in told[0]

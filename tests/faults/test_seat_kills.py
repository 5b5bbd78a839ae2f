"""kill -9 of the script that works in a home, before its commands one after another. Needs no host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.share import spread, turn
from tests.unit.roles.seat_home import LINKS, MODELS, Home

pytestmark = turn(1, of=3)

KILLED = """
set -T
trap 'printf . >>"$COUNT"; read -r dots <"$COUNT" || :; [ ${#dots} -lt "$AT" ] || kill -9 -- -$$' DEBUG
. "$SCRIPT"
"""
"""Ends the script, with all that it has started, before its command number AT."""


@pytest.mark.parametrize("verb", ["on", "off"])
def test_killed_before_one_of_its_commands_it_comes_to_the_same_end(verb: str, tmp_path: Path) -> None:
    counted = Home(tmp_path)
    counted.write(MODELS, "mine")
    if verb == "off":
        counted.seat("on")
    assert not killed(counted, verb, sys.maxsize, tmp_path / "count")
    commands = len((tmp_path / "count").read_text())
    assert commands > 40
    for at in spread(f"commands of {verb}", range(1, commands + 1), 16):
        directory = tmp_path / f"{verb}-{at}"
        directory.mkdir()
        home = Home(directory)
        home.write(MODELS, "mine")
        before = home.found()
        if verb == "off":
            home.seat("on")
        assert killed(home, verb, at, directory / "count")
        if at % 2:  # sometimes the next thing is what was to happen, sometimes the contrary
            home.seat("on")
            assert home.links() == LINKS, f"before command {at}"
        home.seat("off")
        left = home.found()
        # The one thing that nobody can have noted yet: the directory of the notes.
        assert {path: what for path, what in left.items() if not path.startswith(".local")} == before, f"before command {at}"
        assert all(what == "/" for path, what in left.items() if path.startswith(".local")), f"before command {at}: {left}"


def killed(home: Home, verb: str, at: int, count: Path) -> bool:
    """Whether the script was still at work when it was to be killed."""
    count.write_text("")
    environment = {**os.environ, "AT": str(at), "COUNT": str(count), "SCRIPT": str(home.script)}
    done = subprocess.run(["bash", "-c", KILLED, "seat", verb], env=environment, start_new_session=True, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0

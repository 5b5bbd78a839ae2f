"""What waits on a host goes by the seconds since it was started: a clock that is set in between ends no wait, and lengthens none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from resources import scripts

HOST = """set -eu
{scripts}
date() {{ read -r days <days || days=2000; days=$((days + {days})); echo "$days" >days; echo "$((days * 86400))"; }}
uptime_s() {{ read -r up <up || up=0; up=$((up + 1)); echo "$up" >up; echo "$up"; }}
sleep() {{ :; }}
service_manager() {{ case "$*" in *SubState*) echo running ;; *Job*) echo 7 ;; esac; }}
service_unwell() {{ fail "$3"; }}
answers() {{ read -r asked <asked || asked=0; asked=$((asked + 1)); echo "$asked" >asked; [ "$asked" -gt 3 ]; }}
sh() {{ answers; }}
touch days up asked
"""


def runs(directory: Path, script: str, days: int) -> subprocess.CompletedProcess[str]:
    """With a clock that is set by so many days each time that somebody looks at it."""
    text = HOST.format(scripts=scripts(), days=days) + script
    return subprocess.run(["sh", "-c", text], cwd=directory, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("days", [2, -2])
def test_a_service_has_its_time_to_answer(tmp_path: Path, days: int) -> None:
    done = runs(tmp_path, "service_answers x.service 60 true", days)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("days", [2, -2])
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("put_service x.service none 5", "is still being restarted after 5 s"),
        ("answers() { return 1; }; service_answers x.service 5 true", "does not answer after 5 s"),
    ],
)
def test_one_that_never_comes_up_is_given_up(tmp_path: Path, script: str, words: str, days: int) -> None:
    done = runs(tmp_path, script, days)
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert int((tmp_path / "up").read_text()) == 6

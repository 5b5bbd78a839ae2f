"""Releases that are slower than the one that serves: stopped at the canary beyond the limit, taken within it, asked about in between.
One that crashes after two minutes is taken back.

Their llama-server is a shim that takes the time that it is told to take, so that no noise of this machine decides.
"""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.canary_fleet import INSTANCE, PACED, SERVES, canary_fleet, goes_back, stops_at_the_canary
from tests.lab_fleet import LabFleet
from tests.paced_server import tree
from tests.share import WHOLE, turn

pytestmark = turn(2, of=5)

PROMPTS, GENERATION = 400, 200
"""Tokens a second of what serves before: a long prompt takes more than half a second, which is much beside what a busy machine adds."""

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "is 30 % slower": ({"prompts": PROMPTS * 0.7, "generation": GENERATION * 0.7}, "is worse than the one that serves: "),
    "is slower in prompts alone": ({"prompts": PROMPTS * 0.7}, "is worse than the one that serves: prompts: "),
}

if WHOLE:
    KINDS["crashes after two minutes"] = ({"lives_s": 120}, "llama-server-demo.service")

TIMES = 20 if WHOLE else 1

AGAIN = "not decided yet: it is measured again"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    directory = tmp_path_factory.mktemp("paced")
    paced(directory)
    with canary_fleet("paced", directory, PACED, INSTANCE, rounds=4) as fleet:
        fleet.up()
        yield fleet


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_is_worse_stops_at_the_canary(fleet: LabFleet, kind: str) -> None:
    pace, words = KINDS[kind]
    paced(fleet.directory, **pace)
    stops_at_the_canary(fleet, words, soak_s=180)


def test_one_that_is_5_percent_slower_is_taken_each_time(fleet: LabFleet) -> None:
    paced(fleet.directory, prompts=PROMPTS * 0.95, generation=GENERATION * 0.95)
    before = fleet.on("one", SERVES)
    for _ in range(TIMES):
        done = fleet.paddock("upgrade", "--lab", "--yes", "--soak", "0", "--limit", "one", timeout_s=3000)
        print(done.stdout, done.stderr, flush=True)
        assert done.returncode == 0
        assert fleet.on("one", SERVES) != before
        goes_back(fleet, before)


@turn(0, of=10)  # it measures for minutes, three times
def test_where_the_measurements_do_not_decide_it_ends_unless_somebody_says_to_go_on(fleet: LabFleet) -> None:
    paced(fleet.directory, prompts=PROMPTS * 0.85, generation=GENERATION * 0.85, unsteady=True)
    said = stops_at_the_canary(fleet, "cannot be judged: ")
    assert said.count(AGAIN) == 3 and "pairs do not decide it" in said
    before = fleet.on("one", SERVES)
    for answer, code in (("n", 1), ("y", 0)):
        done = answered(fleet, f"y\n{answer}\n", "upgrade", "--lab", "--soak", "0", "--limit", "one")
        assert done.returncode == code
        assert done.stdout.count(AGAIN) == 3 and "the measurements do not decide: " in done.stdout
        assert (fleet.on("one", SERVES) == before) is (answer == "n")
    goes_back(fleet, before)


def paced(directory: Path, **pace: Any) -> None:
    """Writes the source of a release that is so, and else as the one that serves."""
    tree(directory / "paced", **{"prompts": PROMPTS, "generation": GENERATION, **pace})


def answered(fleet: LabFleet, answers: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The verb's result, with these answers at its terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answers.encode())
        done = subprocess.run(
            fleet.command(*words), cwd=fleet.product, env=fleet.env, stdin=theirs, capture_output=True, text=True, timeout=3000
        )
    finally:
        os.close(ours)
        os.close(theirs)
    print(done.stdout, done.stderr, flush=True)
    return done

"""A server that is held to the floor of what it reached, by trials of a stand-in that says how fast it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from resources import Reached, Speed
from roles.llama_server.speeds import NoAnswer, TooSlow, Trial, Tried, held, measured, trial_of, uses
from roles.speed import TRIALS, Floor, trial
from tests.unit.speeds.conftest import Paced

RELEASE = "0.3.36-1f0c8a2b3c4d"
WHEN = datetime(2026, 11, 30, 14, 45, tzinfo=UTC)


def reached(prompts: float = 60_000, generation: float = 6_000, release: str = RELEASE) -> Reached:
    speeds = (Speed(each, each, each) for each in (prompts, generation))
    return Reached(release, "0" * 16, "llama-server.service", "demo", *speeds, tokens=600, trials=5, at=WHEN)


FLOOR = Floor(reached(), 50)


def asked(socket: Path, path: str, *more: str) -> Any:
    command = ["curl", "-sS", "--unix-socket", str(socket), f"http://localhost{path}", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Trials:
    """The trials of one server, which are counted."""

    def __init__(self, socket: Path) -> None:
        self.socket, self.numbers, self.told = socket, count(1), list[str]()

    @property
    def server(self) -> Tried:
        return Tried(RELEASE, "0" * 16, "llama-server.service", "demo", self.try_in, self.in_use)

    def try_in(self, within_s: float) -> Trial:
        path, body = trial("demo", {}, next(self.numbers))
        return trial_of(asked(self.socket, path, "--data", json.dumps(body)))

    def in_use(self, given_up: int) -> str:
        return "it is busy" if uses(asked(self.socket, "/slots")) == "busy" else ""

    def held(self, floor: Floor = FLOOR) -> str:
        return held(self.server, floor, self.told.append)


def test_a_server_that_is_as_fast_as_it_was_is_asked_once(paced: Paced) -> None:
    trials = Trials(paced())
    assert (trials.held(), next(trials.numbers)) == ("", 2)


def test_one_that_is_slower_by_less_than_the_floor_is_fine(paced: Paced) -> None:
    assert Trials(paced(prompts=31_000, generation=3_100)).held() == ""


@pytest.mark.parametrize("slow", [{"prompts": 20_000}, {"generation": 1_000}])
def test_one_below_the_floor_fails_with_what_it_reached_and_what_may_be_wrong(paced: Paced, slow: dict[str, int]) -> None:
    trials = Trials(paced(**slow))
    words = trials.held()
    found = {"prompts": 60_000, "generation": 6_000} | slow
    assert words.startswith("llama-server.service, demo: reads ")
    assert f"reads {found['prompts']:,} tokens/s of prompts and generates {found['generation']:,}, at best in {TRIALS} trials" in words
    assert f"with {RELEASE} it reached 60,000 and 6,000: the floor is 50 % of that, 30,000 and 3,000" in words
    assert "its card is lost or held back by heat or power, or another program uses it" in words
    assert next(trials.numbers) == TRIALS + 1


def test_one_that_is_slower_than_with_the_release_before_is_told_so(paced: Paced) -> None:
    words = Trials(paced(prompts=20_000)).held(Floor(reached(release="0.3.35-aaaa"), 50))
    assert "with 0.3.35-aaaa it reached" in words and f"or {RELEASE} is worse" in words


def scripted(*found: Trial | Exception, use: str = "") -> tuple[Tried, list[str]]:
    left: Iterator[Trial | Exception] = iter(found)

    def try_in(within_s: float) -> Trial:
        each = next(left)
        if isinstance(each, Exception):
            raise each
        return each

    return Tried(RELEASE, "0" * 16, "llama-server.service", "demo", try_in, lambda given_up: use), []


def test_the_best_of_all_trials_counts_for_prompts_and_for_generation() -> None:
    server, told = scripted(Trial(10, 6_000, 600), Trial(60_000, 10, 600))
    assert held(server, FLOOR, told.append) == ""


def test_one_that_ends_no_trial_in_its_time_is_too_slow() -> None:
    server, told = scripted(*[TooSlow()] * TRIALS)
    assert "demo: does not end a trial in 60 s; with" in held(server, FLOOR, told.append)


def test_one_that_goes_on_with_a_trial_that_was_given_up_is_not_called_busy() -> None:
    server, told = scripted(TooSlow())
    asked = []

    def in_use(given_up: int) -> str:
        asked.append(given_up)
        return "it is busy" if len(asked) > 1 and not given_up else ""

    assert "does not end a trial" in held(replace(server, in_use=in_use), FLOOR, told.append)
    assert told == []


def test_one_that_somebody_uses_meanwhile_is_told() -> None:
    server, told = scripted(Trial(10, 10, 600))
    uses = iter(["", "it is busy"])
    assert held(replace(server, in_use=lambda given_up: next(uses)), FLOOR, told.append) == ""
    assert told == ["llama-server.service, demo: its speed is not measured: it is busy"]


def test_a_busy_one_is_told_and_neither_failed_nor_asked(paced: Paced) -> None:
    trials = Trials(paced(busy=True, prompts=10))
    assert (trials.held(), next(trials.numbers)) == ("", 1)
    assert trials.told == ["llama-server.service, demo: its speed is not measured: it is busy"]
    assert measured(trials.server, trials.told.append) == []


def test_one_that_was_never_measured_is_after_it_was_warmed_up(paced: Paced) -> None:
    trials = Trials(paced())
    found = measured(trials.server, trials.told.append)
    assert {(each.prompts, each.generation) for each in found} == {(60_000, 6_000)}
    assert (len(found), next(trials.numbers)) == (5, 7)
    assert 550 < found[0].tokens < 650


def test_a_slow_one_is_measured_with_fewer_trials() -> None:
    slow = Trial(20, 5, 600)
    server, told = scripted(*[slow] * 6)
    assert measured(server, told.append) == [slow, slow]


def test_one_without_timings_is_told(paced: Paced) -> None:
    server, told = scripted(NoAnswer("it tells no timings"))
    assert held(server, FLOOR, told.append) == ""
    assert told == ["llama-server.service, demo: its speed is not measured: it tells no timings"]


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"timings": 1}, {"timings": {"prompt_n": 1}}, {"timings": dict.fromkeys(("prompt_n", "prompt_per_second"), 1e300)}],
)
def test_answers_that_say_nothing_of_speed_are_none(answer: Any) -> None:
    with pytest.raises(NoAnswer, match="it tells no timings"):
        trial_of(answer)


def test_an_error_is_told_in_the_servers_own_words() -> None:
    with pytest.raises(NoAnswer, match="it answers a trial with an error: the request exceeds the context"):
        trial_of({"error": {"code": 400, "message": "the request exceeds the context"}})


@pytest.mark.parametrize("slots", [None, [], {}, {"error": {"code": 501}}, ["idle"]])
def test_who_does_not_tell_its_slots_is_not_taken_for_idle(slots: Any) -> None:
    assert uses(slots) == "unknown"

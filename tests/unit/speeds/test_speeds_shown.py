"""How fast servers were, from an upgrade's judgement to what `paddock status` shows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cli.views.status import as_data, lines
from control.deployment.work import Work
from control.lifecycle.comparison import reached
from control.lifecycle.judgement import Judgement
from control.lifecycle.spread import Spread
from facts.condition import Condition, condition
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Knowledge
from resources import Reached, Release, Speed
from resources.drift import drift
from resources.probe import Actual
from roles.watchdog.plan import watched

RELEASE = Release("/opt/paddock/llama.cpp/releases/0.3.36-1f0c", "/opt/paddock/llama.cpp/current", "0.3.36", "f", "sdist", (), (), ())
WHEN = datetime(2026, 11, 30, 14, 45, tzinfo=UTC)
KEPT = Reached(
    *("0.3.36-1f0c", "5d41402abc4b2a76", "llama-server.service", "demo"),
    *(Speed(1812.4, 1790, 1850), Speed(92.1, 91, 93), 612, 8, WHEN),
)


SERVED = ("llama-server.service", "demo", "0.3.36-1f0c")


def shown(machine: Condition, share: int = 50) -> tuple[list[str], Any]:
    actual = Actual(resources={RELEASE.id: {"current": RELEASE.path}})
    plan = {"llama_cpp": (RELEASE,)}
    work = Work(plan, actual, drift(plan, actual))
    said = [line for line in lines("pea", work, machine, share) if "tokens/s" in line]
    return said, json.loads(json.dumps(as_data(work, machine, "", share=share)))


def test_status_shows_what_was_reached_last_with_the_release_that_serves() -> None:
    older, other = replace(KEPT, at=WHEN.replace(hour=9), mark="0" * 16), replace(KEPT, release="0.3.35-aa")
    said, data = shown(condition(["#speed", KEPT.text, older.text, other.text, "nonsense"]))
    assert said == [
        "  llama-server.service, demo: 1,812 tokens/s of prompts, 92.1 of generation, measured on 2026-11-30 14:45 UTC; floor 906 and 46"
    ]
    (each,) = data["speeds"]
    assert (each["unit"], each["model"], each["release"], each["measured"]) == (*SERVED, "2026-11-30T14:45:00Z")
    assert each["prompts"] == {"middle": 1812.4, "low": 1790, "high": 1850} and each["prompt_tokens"] == 612
    assert each["floor"] == pytest.approx({"prompts": 906.2, "generation": 46.05})


def test_without_a_floor_none_is_shown() -> None:
    said, data = shown(condition(["#speed", KEPT.text]), share=0)
    assert said[0].endswith("measured on 2026-11-30 14:45 UTC") and data["speeds"][0]["floor"] is None


def test_a_host_that_was_never_measured_shows_nothing_of_it() -> None:
    said, data = shown(condition([]))
    assert said == [] and "speeds" not in data


def test_a_restart_for_speed_is_told_as_one() -> None:
    (words,) = condition(["#acted", "125 chat.small:speed.restarted"]).faults
    assert words == "the watchdog restarted chat.small, which was too slow, 2 min ago: see journalctl -u paddock-watchdog"


def fleet(preset: dict[str, Any]) -> Fleet:
    server = {"instances": {"chat": {"model": "demo", "listen": "127.0.0.1:8081", "preset": preset}}}
    roles = {"llama_cpp": {}, "models": {}, "llama_server": server, "watchdog": {}}
    hosts = {"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}}
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": {"demo": {}}})


def judged(**values: float) -> Judgement:
    return Judgement((), {name.replace("_", " "): Spread(each, each, each, 16) for name, each in values.items()}, 612)


def test_what_an_upgrade_measured_is_what_the_watchdog_looks_for() -> None:
    home = fleet({"n-gpu-layers": 99})
    (server,) = home.servers("pea")
    found = reached(judged(prompts=1800, generation=95, generation_after_a_long_prompt=92), server, RELEASE, home)
    assert found and (found.release, found.unit, found.model, found.tokens, found.trials) == (
        *("0.3.36-1f0c", "llama-server-chat.service", "demo", 612, 16),
    )
    assert (found.prompts.middle, found.generation.middle) == (1800, 92)
    known = Knowledge(hardware={"pea": Hardware("x86_64", "", frozenset(), 2, 16384, "debian 13")}, releases={"pea": RELEASE})
    (line,) = watched(server, home, known, timed=True)
    assert line[9] == found.mark


@pytest.mark.parametrize("preset", [{"embeddings": True}, {"reranking": True}])
def test_what_does_not_generate_has_no_floor(preset: dict[str, Any]) -> None:
    home = fleet(preset)
    (server,) = home.servers("pea")
    assert reached(judged(prompts=1800, generation_after_a_long_prompt=92), server, RELEASE, home) is None


def test_a_canary_that_ended_has_reached_nothing() -> None:
    home = fleet({})
    assert reached(Judgement((), {}), home.servers("pea")[0], RELEASE, home) is None

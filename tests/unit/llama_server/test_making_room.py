"""A router that unloads one model to load another, in versions of llama-server in which that goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from control.llama_cpp.definitions import Definitions
from control.llama_cpp.limits import ROUTER, rules_of
from inventory.limits import CUTS_OFF, MAKING_ROOM, STARTUP, UNLOADED_TOO_SOON, WAITS_FOR_EVER, eviction_fault
from inventory.load import load, loaded
from inventory.options import SHIPPED, Options, read
from inventory.presets import judged

NEWEST = read(SHIPPED.read_text())

WITHOUT_QUEUE = """
void server_models::unload_lru() {
    if (base_params.models_max <= 0) {
        return; // no limit
    }
    {
        for (const auto & m : mapping) {
            if (m.second.meta.is_running()) {
                count_active++;
                if (m.second.meta.last_used < lru_last_used) {
                    lru_model_name = m.first;
                }
            }
        }
    }
    unload(lru_model_name);
}

bool server_models::ensure_model_ready(const std::string & name) {
    if (meta->status == SERVER_MODEL_STATUS_UNLOADED) {
        load(name);
    }
}
"""
"""As up to llama-cpp-python 0.3.34."""

QUEUE = """
struct server_lru_sched {
    std::string pick_victim(std::unique_lock<std::mutex> & lk, const std::string & exclude) {
        return victim;
    }

    void join(std::unique_lock<std::mutex> & lk, const std::string & model_id) {
        queue.push_back({ model_id, 1, false, false });
    }

    void mark_slot_pending(std::unique_lock<std::mutex> & lk, const std::string & model_id) {
    }
};

void server_models::unload_lru() {
    lru_model_name = sched->pick_victim(lk, "");
    unload(lru_model_name);
}

bool server_models::ensure_model_ready(const std::string & name, const std::function<bool()> & should_stop) {
    if (meta->is_ready()) {
        return false; // ready for taking requests
    }
    {
        if (has_capacity && sched->queue_empty(lk)) {
            load(name);
        } else {
            sched->join(lk, name);
            victim = sched->pick_victim(lk, name);
        }
    }
    unload(victim);
    return true;
}

void server_models::unload(const std::string & name) {
    stopping_models.count(name);
}
"""
"""As llama-cpp-python 0.3.35."""

TICKING = QUEUE.replace("void mark_slot_pending(", "void tick(").replace("victim = sched->pick_victim(lk, name);", "sched->tick(lk);")
"""As llama.cpp 0.4.0."""

MENDED = TICKING.replace("if (meta->is_ready())", "stopping = stopping_models.count(name) > 0;\n    if (!stopping && meta->is_ready())")
"""As llama-cpp-python 0.3.36."""


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (WITHOUT_QUEUE, {CUTS_OFF}),
        (WITHOUT_QUEUE.replace("is_running", "is_active"), {CUTS_OFF}),
        (QUEUE, {WAITS_FOR_EVER}),
        (TICKING, {UNLOADED_TOO_SOON}),
        (MENDED, set()),
    ],
)
def test_what_goes_wrong_is_read_in_the_source(text: str, rules: set[str]) -> None:
    assert set(rules_of(Definitions({ROUTER: text}))) == rules


@pytest.mark.parametrize(
    "text",
    [
        "",
        WITHOUT_QUEUE.replace("is_running()", "is_running() && !m.second.is_busy()"),
        QUEUE.replace("struct server_lru_sched {", "struct server_scheduler {"),
        QUEUE.replace("victim = sched->pick_victim(lk, name);", "victim = sched->next(lk);"),
        TICKING.replace("server_models::ensure_model_ready", "server_models::ready"),
        TICKING.replace("sched->join(", "sched->queued("),
    ],
)
def test_a_version_that_is_written_in_another_way_is_not_accused(text: str) -> None:
    assert rules_of(Definitions({ROUTER: text})) == {}


def with_rule(rule: str) -> Options:
    return replace(NEWEST, label="0.3.35", rules={rule: ()})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (WAITS_FOR_EVER, "0.3.35 a request that waits for room may wait for ever (ggml-org/llama.cpp#28443)"),
        (
            UNLOADED_TOO_SOON,
            "0.3.35 a model may be unloaded before it answers the request that it was loaded for (ggml-org/llama.cpp#28698)",
        ),
        (CUTS_OFF, "0.3.35 loading a model ends the answers of the one that makes room for it (ggml-org/llama.cpp#21678)"),
    ],
)
def test_only_a_router_that_has_to_make_room_is_refused(rule: str, words: str) -> None:
    assert eviction_fault(2, 3, with_rule(rule)) == (
        f"the router lists 3 models and has 2 in memory at a time (models_max), but in llama-server {words}: "
        "use llama.cpp 0.5.0 or newer, set models_max to 3, or to 0 for no limit, or use `instances`"
    )
    assert [eviction_fault(most, 3, with_rule(rule)) for most in (0, 3, 4)] == ["", "", ""]
    assert eviction_fault(1, 1, with_rule(rule)) == ""


def test_the_default_version_may_make_room() -> None:
    assert MAKING_ROOM.keys().isdisjoint(NEWEST.rules)
    assert eviction_fault(1, 3, NEWEST) == ""


INVENTORY = """
fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp: {source: {sdist: llama-cpp-python==0.3.35, sha256: SHA}}
      models:
      llama_server: SERVER
models: {one: , two: , three: , eager: {preset: {load-on-startup: on}}, early: {preset: {load-on-startup: on}}}
""".replace("SHA", "aa" * 32)


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("{models: [one, two]}", "10:22: hosts.ai.roles.llama_server.models: the router lists 2 models and has 1 in memory"),
        (
            "{models: [one, two], models_max: 1}",
            "10:54: hosts.ai.roles.llama_server.models_max: the router lists 2 models and has 1 in memory",
        ),
        (
            "{models: [one, two, three], models_max: 2}",
            "10:61: hosts.ai.roles.llama_server.models_max: the router lists 3 models and has 2 in memory",
        ),
        ("{models: [eager, early]}", "10:22: hosts.ai.roles.llama_server.models: eager, early load on startup, and models_max is 1"),
    ],
)
def test_check_refuses_it_where_the_inventory_says_it(server: str, told: str, tmp_path: Path) -> None:
    (problem,) = problems(server, tmp_path)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "server",
    [
        "{models: [one]}",
        "{models: [one, two], models_max: 2}",
        "{models: [one, two], models_max: 0}",
        "{models: [one], instances: {two: {model: two, listen: '127.0.0.1:81'}}}",
        "{instances: {one: {model: one, listen: '127.0.0.1:80'}, two: {model: two, listen: '127.0.0.1:81'}}}",
    ],
)
def test_check_lets_others_be(server: str, tmp_path: Path) -> None:
    assert problems(server, tmp_path) == []


def problems(server: str, directory: Path) -> list[str]:
    """What is wrong with an inventory whose host has an older version."""
    path = directory / "home.yml"
    path.write_text(INVENTORY.replace("SERVER", server))
    older = replace(NEWEST, label="0.3.35", rules={STARTUP: (), WAITS_FOR_EVER: ()})
    return [line.removeprefix(f"{path}:") for line in judged(loaded(path).positions, load(path), lambda source: older).problems]

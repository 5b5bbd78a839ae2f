"""`/benchmark`: what it measures within which context, and what it recommends from it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from paddock_gateway.apis.benchmark import Benchmark, Profile, Run, duration, fitting, recommended
from paddock_gateway.settings import Pi
from tests.unit.gateway.apis.stubs import ANN, Stage, served


def measured(stage: Stage, body: Any) -> tuple[int, Any]:
    async def go() -> tuple[int, Any]:
        async with served(stage.parts) as client, client.post("/benchmark", data=json.dumps(body), headers=ANN) as response:
            return response.status, await response.json()

    return asyncio.run(go())


def test_each_context_size_is_run_as_often_as_was_asked() -> None:
    stage = Stage()
    status, told = measured(stage, {"prompt": "a" * 300, "max_tokens": 500, "runs": 3, "context_sizes": [512, 1024]})
    assert status == 200
    assert (told["model"], told["runs"], told["prompt_chars"]) == ("qwen2.5:3b", 3, 300)
    assert [(profile["context_size"], profile["runs"], profile["avg_completion_tokens"]) for profile in told["profiles"]] == [
        (512, 3, 2.0),
        (1024, 3, 2.0),
    ]
    assert [body["max_tokens"] for body in stage.upstream.asked] == [412] * 3 + [500] * 3
    assert {body["temperature"] for body in stage.upstream.asked} == {0.2}
    assert set(stage.upstream.logged) == {"/benchmark"}
    assert told["recommended"]["env"]["OLLAMA_KEEP_ALIVE"] == "30m"
    assert told["recommended"]["env"]["N_THREADS"] == 4


def test_a_size_above_the_models_context_is_refused_by_its_place_before_anything_runs() -> None:
    stage = Stage()
    status, told = measured(stage, {"context_sizes": [512, 4096]})
    assert status == 422
    assert told["detail"][0]["loc"] == ["body", "context_sizes", 1]
    assert "4096 is more than the model's context, 2048 tokens" in told["detail"][0]["msg"]
    assert stage.upstream.asked == []


@pytest.mark.parametrize(("body", "field"), [({"runs": 11}, "runs"), ({"runs": 0}, "runs"), ({"context_sizes": []}, "context_sizes")])
def test_what_does_not_fit_is_refused(body: Any, field: str) -> None:
    status, told = measured(Stage(), body)
    assert (status, told["detail"][0]["loc"]) == (422, ["body", field])


def test_a_model_that_says_nothing_is_no_measurement() -> None:
    stage = Stage()
    stage.upstream.tokens = ()
    status, told = measured(stage, {"runs": 1})
    assert (status, told) == (502, {"detail": "The model's answer had no tokens to measure."})


def test_sizes_that_are_left_out_are_those_with_room() -> None:
    assert fitting(None, 0) == (512, 1024)
    assert fitting(None, 600) == (512,)
    assert fitting(None, 256) == (256,)
    assert fitting((512, 512), 0) == (512,)


def test_the_rate_is_that_of_the_tokens_after_the_first() -> None:
    assert Run(whole_s=3.0, first_s=1.0, tokens=11).tokens_per_second == 5.0
    assert Run(whole_s=2.0, first_s=2.0, tokens=1).tokens_per_second == 0.5


def test_the_recommendation_is_the_documents() -> None:
    profiles = [Profile(512, 2, 1840.17, 311.89, 78.0, 9.42), Profile(1024, 2, 2124.63, 356.21, 78.5, 8.11)]
    found = recommended(profiles, Benchmark(max_tokens=160), Pi(model="qwen", threads=4))
    assert (found.env.N_CTX, found.env.MAX_TOKENS, found.env.N_THREADS, found.env.OLLAMA_KEEP_ALIVE) == (512, 128, 4, "30m")
    assert (found.request_defaults.max_tokens, found.request_defaults.stream) == (128, True)
    assert found.reason == "Recommendation favors the profile with the highest measured completion token throughput."


@pytest.mark.parametrize(("rate", "asked", "tokens"), [(0.1, 160, 32), (1000.0, 160, 160), (1000.0, 2048, 256), (5.0, 8, 32)])
def test_the_recommended_tokens_stay_within_what_was_asked_and_half_the_context(rate: float, asked: int, tokens: int) -> None:
    found = recommended([Profile(512, 1, 1, 1, 1, rate)], Benchmark(max_tokens=asked), Pi(model="qwen"))
    assert tokens == found.env.MAX_TOKENS


def test_a_residency_is_written_as_ollama_reads_it() -> None:
    assert [duration(seconds) for seconds in (1800, 90, 7200)] == ["30m", "90s", "120m"]

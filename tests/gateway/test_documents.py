"""The small host's document: each of its requests, as it stands there, gets the documented answer of a real llama-server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Llama
from tests.gateway.documented import BENCHMARK, BODIES, HEALTH, KEYS, STREAMED, WHOLE, Answer, curl, logged, post, sampled
from tests.gateway.process import Gateway, back_end, free_port, running, told

SAID = " Hello from a tiny model: this host answers."
MODEL = "qwen2.5:3b"
CONTEXT = 4096
"""Tokens of a slot of the servers, which the gateway's settings do not say."""


class Small:
    """The small host's gateway, and the keys that its own document makes."""

    def __init__(self, gateway: Gateway, llama: Llama, directory: Path) -> None:
        self.gateway, self.llama, self.directory = gateway, llama, directory
        self.made = [self.curl(command) for command in KEYS]
        self.key = str(self.made[0].json["api_key"])

    def curl(self, command: str, key: str = "") -> Answer:
        return curl(command, self.gateway.port, self.directory, key)

    def post(self, path: str, body: Any) -> Answer:
        return post(path, body, self.gateway.port, self.directory, self.key)

    def sampling(self) -> list[float]:
        """Of the server's last request: the most tokens, temperature, top_p and top_k."""
        said = sampled(self.llama.urls["one"])
        return [round(said[name], 3) for name in ("max_tokens", "temperature", "top_p", "top_k")]

    def rows(self, path: str, number: int) -> list[dict[str, Any]]:
        return logged(self.directory, number, path=path)


def configuration(url: str, **pi: Any) -> dict[str, Any]:
    return {
        "backends": {"one": {"url": url}},
        "models": {MODEL: {"targets": [{"backend": "one", "model": "tiny"}]}},
        "pi": {"model": MODEL, "threads": 4, **pi},
    }


@pytest.fixture(scope="module")
def small(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    directory = tmp_path_factory.mktemp("small")
    (directory / "master").write_text("sk-master")
    settings = configuration(llama.urls["one"], warm_up=True, keys_generate={}) | {"master_key_file": str(directory / "master")}
    with running(directory, settings) as gateway:
        yield Small(gateway, llama, directory)


def test_its_health_is_the_documents(small: Small) -> None:
    answer = small.curl(HEALTH)
    assert (answer.status, answer.json) == (
        200,
        {"status": "healthy", "model_loaded": True, "model_path": MODEL, "queue_size": 0, "active_requests": 0, "max_concurrent": 4},
    )


def test_its_health_hides_none_of_litellms(small: Small) -> None:
    assert small.curl("curl http://localhost:8000/health/liveliness").json == "I'm alive!"
    answer = small.curl("curl http://localhost:8000/health/readiness")
    assert (answer.status, answer.json["status"], answer.json["db"]) == (200, "healthy", "connected")


def test_it_was_ready_when_the_model_had_said_its_first_token(small: Small) -> None:
    row = small.rows("warm-up", 1)[0]
    assert (row["status_code"], row["completion_tokens"], row["backend"]) == (200, 1, "one")


def test_until_its_model_has_warmed_up_it_starts(tmp_path: Path) -> None:
    with back_end(1, "--token-ms", "1000") as url:
        gateway = Gateway(tmp_path, configuration(url, warm_up=True), port=free_port())
        starting = threading.Thread(target=gateway.start)
        starting.start()
        try:
            seen = []
            while starting.is_alive():
                with suppress(subprocess.CalledProcessError):  # nobody listens yet
                    health = curl(HEALTH, gateway.port, tmp_path).json
                    seen.append((health["status"], health["model_loaded"]))
            assert ("starting", False) in seen
            assert curl(HEALTH, gateway.port, tmp_path).json["status"] == "healthy"
            assert told(url)["served"]
        finally:
            starting.join()
            if gateway.process:
                gateway.process.kill()
                gateway.process.wait()


def test_a_key_is_made_for_whoever_is_on_the_host_and_works_at_once(small: Small) -> None:
    for answer, owner in zip(small.made, ("my-device", "External Device 1"), strict=True):
        assert (answer.status, set(answer.json), answer.json["owner"]) == (200, {"api_key", "owner", "created_at"}, owner)
        assert abs(answer.json["created_at"] - time.time()) < 3600
        assert small.curl(WHOLE[0], answer.json["api_key"]).status == 200
    again = small.curl(KEYS[0])
    assert again.status == 200 and again.json["api_key"] != small.key
    refused = small.curl(WHOLE[0], "sk-of-nobody")
    assert refused.status == 401 and isinstance(refused.json["detail"], str)


@pytest.mark.parametrize("command", STREAMED)
def test_a_stream_has_tokens_and_in_the_end_their_number(small: Small, command: str) -> None:
    answer = small.curl(command, small.key)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    *tokens, (last, counts) = answer.events
    assert {name for name, _ in tokens} == {"token"} and len(tokens) > 1 and last == "done"
    assert "".join(said["token"] for _, said in tokens) == SAID
    assert counts["completion_tokens"] == 9 and counts["total_tokens"] == counts["prompt_tokens"] + 9


@pytest.mark.parametrize("command", WHOLE)
def test_a_whole_answer_is_the_documents(small: Small, command: str) -> None:
    answer = small.curl(command, small.key)
    assert (answer.status, set(answer.json)) == (200, {"text", "prompt_tokens", "completion_tokens", "total_tokens"})
    assert (answer.json["text"], answer.json["completion_tokens"]) == (SAID, 9)
    assert answer.json["total_tokens"] == answer.json["prompt_tokens"] + 9


def test_a_system_prompt_comes_before_the_prompt(small: Small) -> None:
    alone, guided = (small.curl(WHOLE[number], small.key).json["prompt_tokens"] for number in (0, 1))
    assert guided > alone + 80, "nearly each letter is a token of its own"


def test_what_a_request_leaves_out_is_as_the_document_says(small: Small) -> None:
    small.curl(WHOLE[2], small.key)
    assert small.sampling() == [160, 0.7, 0.9, 40]


def test_what_a_request_says_acts(small: Small) -> None:
    small.curl(STREAMED[1], small.key)
    assert small.sampling() == [100, 0.8, 0.9, 40]
    assert small.post("/generate", BODIES["/generate"]).status == 200
    short = small.post("/generate", {"prompt": "Hi", "stop": [" model", "\n", " host", "nowhere"], "stream": False})
    assert short.json["text"] == " Hello from a tiny"
    assert small.post("/generate", {"prompt": "Hi", "max_tokens": 2, "stream": False}).json["completion_tokens"] == 2


WITHIN: dict[str, tuple[Any, Any]] = {
    "prompt": ("x", "y" * 2000 + " " * 1000),
    "system": ("", "z" * 3000),
    "max_tokens": (1, 2048),
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (1, 100),
    "stop": ([], ["\n"] * 4),
    "stream": (False, False),
}
BEYOND: dict[str, tuple[Any, ...]] = {
    "prompt": ("", "p" * 8193, None, 7),
    "system": ("s" * 4097,),
    "max_tokens": (0, 2049, 1.5),
    "temperature": (-0.1, 2.1, "hot"),
    "top_p": (-0.1, 1.1),
    "top_k": (0, 101),
    "stop": (["\n"] * 5, "\n", [1]),
    "stream": ("perhaps",),
}


@pytest.mark.parametrize("field", WITHIN)
def test_a_field_is_taken_within_its_bounds_and_refused_by_name_beyond_them(small: Small, field: str) -> None:
    for value in WITHIN[field]:
        answer = small.post("/generate", {"prompt": "Hi", "stream": False, field: value})
        assert answer.status == 200, (field, value, answer.text)
    for value in BEYOND[field]:
        answer = small.post("/generate", {"prompt": "Hi", "stream": False, field: value})
        assert (answer.status, answer.json["detail"][0]["loc"][:2]) == (422, ["body", field]), (field, value)
        assert {"type", "loc", "msg"} <= set(answer.json["detail"][0])


def test_a_prompt_and_a_system_prompt_of_full_length_are_no_bad_request(small: Small) -> None:
    """They do not fit into this server's context, and it is the server who says so."""
    answer = small.post("/generate", {"prompt": "p" * 8192, "system": "s" * 4096, "stream": False})
    assert answer.status == 400 and "context" in answer.json["detail"]


def test_a_request_without_a_prompt_is_refused(small: Small) -> None:
    answer = small.post("/generate", {"stream": False})
    assert (answer.status, answer.json["detail"][0]["loc"], answer.json["detail"][0]["type"]) == (422, ["body", "prompt"], "missing")


def test_a_stream_whose_server_dies_ends_with_an_error(tmp_path: Path) -> None:
    pids: list[int] = []
    with back_end(4, "--token-ms", "100", pids=pids) as url, running(tmp_path, configuration(url, keys_generate={})) as gateway:
        key = curl(KEYS[0], gateway.port, tmp_path).json["api_key"]
        with ThreadPoolExecutor() as aside:
            streaming = aside.submit(curl, STREAMED[0], gateway.port, tmp_path, key)
            while not told(url)["running"]:
                time.sleep(0.01)
            time.sleep(0.5)
            os.kill(pids[0], signal.SIGKILL)
            events = list(streaming.result().events)
    assert events[0][0] == "token" and events[-1][0] == "error" and events[-1][1]["error"]


def test_four_run_at_once_and_others_wait(tmp_path: Path) -> None:
    with back_end(8, "--token-ms", "50") as url, running(tmp_path, configuration(url, keys_generate={})) as gateway:
        key = curl(KEYS[0], gateway.port, tmp_path).json["api_key"]
        places = [tmp_path / str(number) for number in range(6)]
        for place in places:
            place.mkdir()
        with ThreadPoolExecutor(6) as callers:
            asked = [callers.submit(curl, WHOLE[0], gateway.port, place, key) for place in places]
            seen = set()
            while not all(each.done() for each in asked):
                health = curl(HEALTH, gateway.port, tmp_path).json
                seen.add((health["active_requests"], health["queue_size"]))
        assert (4, 2) in seen and max(active for active, _ in seen) == 4
        assert [each.result().status for each in asked] == [200] * 6 and told(url)["most"] == 4


def test_a_benchmark_is_the_documents(small: Small) -> None:
    answer = small.curl(BENCHMARK, small.key)
    said = answer.json
    assert (answer.status, list(said)) == (200, ["model", "runs", "prompt_chars", "profiles", "recommended"])
    assert (said["model"], said["runs"], said["prompt_chars"]) == (MODEL, 2, len("Explain photosynthesis in two short sentences."))
    assert [(profile["context_size"], profile["runs"], profile["avg_completion_tokens"]) for profile in said["profiles"]] == [
        (512, 2, 9.0),
        (1024, 2, 9.0),
    ]
    for profile in said["profiles"]:
        assert 0 < profile["avg_ttft_ms"] <= profile["avg_latency_ms"] and profile["avg_completion_tokens_per_second"] > 0
    best = max(said["profiles"], key=lambda profile: profile["avg_completion_tokens_per_second"])
    env, defaults = said["recommended"]["env"], said["recommended"]["request_defaults"]
    assert (env["N_CTX"], env["N_THREADS"], env["OLLAMA_KEEP_ALIVE"]) == (best["context_size"], 4, "30m")
    assert 32 <= env["MAX_TOKENS"] <= 160 and defaults == {"max_tokens": env["MAX_TOKENS"], "stream": True}
    assert said["recommended"]["reason"] == "Recommendation favors the profile with the highest measured completion token throughput."
    assert small.post("/benchmark", BODIES["/benchmark"]).status == 200
    assert small.sampling() == [160, 0.2, 0.9, 40]


def test_each_run_of_a_benchmark_reads_the_whole_prompt(small: Small) -> None:
    before = len(small.rows("/benchmark", 0))
    assert small.post("/benchmark", {"runs": 3, "context_sizes": [64]}).json["profiles"][0]["runs"] == 3
    rows = small.rows("/benchmark", before + 3)
    assert {row["cached_tokens"] for row in rows} == {0} and {row["status_code"] for row in rows} == {200}
    before = len(small.rows("/generate", 0))
    for _ in range(2):
        assert small.curl(WHOLE[0], small.key).status == 200
    assert small.rows("/generate", before + 2)[-1]["cached_tokens"] > 0, "which others do not"


def test_a_context_above_the_servers_own_is_refused_and_named(small: Small) -> None:
    assert small.post("/benchmark", {"runs": 1, "context_sizes": [CONTEXT]}).status == 200
    answer = small.post("/benchmark", {"context_sizes": [512, CONTEXT + 1]})
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "context_sizes", 1])
    assert f"{CONTEXT} tokens" in answer.json["detail"][0]["msg"]


def test_a_model_that_nobody_asks_sleeps_and_the_next_request_wakes_it(llama: Llama, tmp_path: Path) -> None:
    """Its residency is llama-server's `sleep-idle-seconds`, and that the gateway looks at it keeps it awake no longer."""
    url = llama.urls["sleepy"]
    with running(tmp_path, {**configuration(url, keys_generate={}), "health": {"every_s": 0.2}}) as gateway:
        key = curl(KEYS[0], gateway.port, tmp_path).json["api_key"]
        for _ in range(2):
            assert curl(WHOLE[0], gateway.port, tmp_path, key).json["text"] == SAID
            while not told(url, "props")["is_sleeping"]:
                time.sleep(0.1)
        health = curl(HEALTH, gateway.port, tmp_path).json
        assert (health["status"], health["model_loaded"]) == ("healthy", True)

"""Anthropic's messages by way of chat completions are those that llama-server itself answers, and keep the slot that it drops."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError

import orjson
import pytest

from lab.hosts import ssh_command
from paddock_gateway.convert.converter import CONVERTERS
from tests import calling_model
from tests.lab_fleet import lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

CONVERTER = CONVERTERS["/v1/messages"]

INVENTORY = """\
fleet: convert
domain: home.example

hosts:
  one:
    address: 192.0.2.10
    roles:
      base:
      llama_cpp:
        source:
          sdist: llama-cpp-python==0.3.36
        ui: false
      models:
      llama_server:
        instances:
          single: {model: calling, listen: 127.0.0.1:8081, preset: {parallel: 1}}
          double: {model: calling, listen: 127.0.0.1:8082, preset: {parallel: 2}}

models:
  calling:
    source: tiny    # until calling_model.put
    preset: {ctx-size: 8192, cache-ram: 0}
"""

PORTS = (8081, 8082)

HI = {"role": "user", "content": "hi"}
DAYS = {"type": "integer", "minimum": 1, "maximum": 3}
CITY = {"enum": ["Paris", "Rome"]}
TOOLS = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": CITY, "days": DAYS}, "required": ["city", "days"]}},
    {"name": "clock", "description": "The time"},
]
CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome", "days": 1}}
TURNS = [
    HI,
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Wait"}, CALL]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]}]},
]

SYSTEM = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind", "cache_control": {"type": "ephemeral"}}]

CASES: dict[str, list[dict[str, Any]]] = {
    "text": [{"max_tokens": most} for most in range(1, 34)],
    "tools": [{"tools": TOOLS, "max_tokens": most} for most in range(1, 34)],
    "tools, without thinking": [
        {"tools": TOOLS, "max_tokens": most, "chat_template_kwargs": {"enable_thinking": False}} for most in range(1, 28)
    ],
    "tools that have to be called": [
        {"tools": TOOLS, "tool_choice": choice} for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}, {"type": "none"})
    ],
    "system": [{"system": system} for system in ("be kind", "", SYSTEM)],
    "turns": [{"messages": TURNS, "tools": TOOLS}, {"messages": TURNS}],
    "thinking": [
        {**more, "thinking": {"type": "enabled", "budget_tokens": budget}} for budget in (0, 1, 2, 3, 50) for more in ({}, {"tools": TOOLS})
    ],
    "stop sequences": [
        {**more, "stop_sequences": ["nowhere", word]}
        for word in ("me", "think", "Voil", "b>", "weather", '"Par', "never")
        for more in ({}, {"tools": TOOLS})
    ],
    "samplers": [{"temperature": 0.8, "top_k": 1, "top_p": 0.9}, {"temperature": None}],
    "limits": [{"max_tokens": 0}, {"max_tokens": None, "stop_sequences": ["b"]}],
    "refused": [{"max_tokens": -5}, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 40000}]}]}],
}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of a server with one slot, and of one with two."""
    directory = tmp_path_factory.mktemp("convert")
    with lab_fleet("convert", directory, INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        calling_model.put(fleet, "one")
        here = [_free_port() for _ in PORTS]
        tunnels = [f"-L127.0.0.1:{port}:127.0.0.1:{there}" for port, there in zip(here, PORTS, strict=True)]
        with subprocess.Popen([*ssh_command(fleet.host("one")), "-N", *tunnels]) as tunnel:
            try:
                single, double = (f"http://127.0.0.1:{port}" for port in here)
                _await(single)
                _await(double)
                yield single, double
            finally:
                tunnel.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _await(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def ask(url: str, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Connection": "close"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def converted(url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    path, asked = CONVERTER.request(body)
    status, answer = ask(url, path, {**asked, "id_slot": 0})
    if status != 200:
        return status, answer
    if not body["stream"]:
        return status, orjson.dumps(CONVERTER.whole(orjson.loads(answer)))
    stream = CONVERTER.stream()
    chunks = [orjson.loads(line[6:]) for line in answer.split(b"\n\n") if line.startswith(b"data: {")]
    return status, b"".join(map(stream.feed, chunks)) + stream.end()


def without_ids(answer: bytes) -> bytes:
    return re.sub(rb'"id":"[^"]+"', b'"id":""', answer)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("case", CASES)
def test_an_answer_has_the_bytes_of_llama_servers_own(urls: tuple[str, str], case: str, stream: bool) -> None:
    for given in CASES[case]:
        body = {"messages": [HI], "max_tokens": 40, "temperature": 0, "stream": stream, **given}
        ask(urls[0], "/v1/messages", body)  # from now on all of the prompt comes from the cache
        direct, there = ask(urls[0], "/v1/messages", body), converted(urls[0], body)
        assert direct[0] == there[0] and without_ids(direct[1]) == without_ids(there[1]), given


def test_the_words_of_the_caller_that_go_on_are_a_delta_of_their_own(urls: tuple[str, str]) -> None:
    body = {"messages": [HI, {"role": "assistant", "content": "Sure"}], "max_tokens": 3, "temperature": 0, "stream": True}
    ask(urls[0], "/v1/messages", body)
    spoken = [
        b"".join(re.findall(rb'"text":"(.*?)"}', answer)) for _, answer in (ask(urls[0], "/v1/messages", body), converted(urls[0], body))
    ]
    assert spoken[0] == spoken[1] and spoken[0].startswith(b"Sure")


def cached(url: str, path: str, words: str, **more: Any) -> int:
    """How many tokens of the prompt came from the cache."""
    body = {"messages": [{"role": "user", "content": words}], "max_tokens": 1, **more}
    if path == "/v1/responses":
        body = {"input": words, "max_output_tokens": 1, **more}
    status, answer = ask(url, path, body)
    assert status == 200, answer
    usage = json.loads(answer)["usage"]
    found = (
        usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {"cached_tokens": usage.get("cache_read_input_tokens")}
    )
    return int(found["cached_tokens"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_these_routes_keep_the_slot_and_what_is_said_of_the_cache(urls: tuple[str, str], path: str) -> None:
    words = f"Of {path}, again and again and again."
    for slot in (0, 1):
        assert cached(urls[1], path, words, id_slot=slot) < len(words)
        assert cached(urls[1], path, words, id_slot=slot) > len(words)
        assert cached(urls[1], path, words, id_slot=slot, cache_prompt=False) == 0


def test_messages_drop_both_which_is_why_they_are_converted(urls: tuple[str, str]) -> None:
    words = "Of messages, again and again and again."
    cached(urls[1], "/v1/chat/completions", words, id_slot=0)
    cached(urls[1], "/v1/chat/completions", "Something else, so that slot 1 holds nothing of it.", id_slot=1)
    assert cached(urls[1], "/v1/messages", words, id_slot=1, cache_prompt=False) > len(words)

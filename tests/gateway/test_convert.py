"""Anthropic's messages by way of chat completions are those that llama-server itself answers, and keep the slot that it drops."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from paddock_gateway.convert.converter import CONVERTERS
from tests.gateway.asking import ask
from tests.gateway.conftest import Llama
from tests.share import spread

CONVERTER = CONVERTERS["/v1/messages"]

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
def url(llama: Llama) -> str:
    """Of a server with two slots. What is converted is asked of the first, which llama-server chooses as well where it has the prompt."""
    return llama.urls["calling"]


def direct(url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    answer = ask(url, "/v1/messages", body)
    return answer.status, answer.raw


def converted(url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    path, sent = CONVERTER.request(body)
    answer = ask(url, path, {**sent, "id_slot": 0})
    if answer.status != 200:
        return answer.status, answer.raw
    if not body["stream"]:
        return answer.status, orjson.dumps(CONVERTER.whole(answer.body))
    stream = CONVERTER.stream()
    return answer.status, b"".join(map(stream.feed, answer.events)) + stream.end()


def without_ids(answer: bytes) -> bytes:
    return re.sub(rb'"id":"[^"]+"', b'"id":""', answer)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("case", CASES)
def test_an_answer_has_the_bytes_of_llama_servers_own(url: str, case: str, stream: bool) -> None:
    for given in spread(f"conversion: {case}", CASES[case], 10):
        body = {"messages": [HI], "max_tokens": 40, "temperature": 0, "stream": stream, **given}
        converted(url, body)  # from now on all of the prompt comes from the cache
        own, ours = direct(url, body), converted(url, body)
        assert own[0] == ours[0] and without_ids(own[1]) == without_ids(ours[1]), given


def test_the_words_of_the_caller_that_go_on_are_a_delta_of_their_own(url: str) -> None:
    body = {"messages": [HI, {"role": "assistant", "content": "Sure"}], "max_tokens": 3, "temperature": 0, "stream": True}
    converted(url, body)
    spoken = [b"".join(re.findall(rb'"text":"(.*?)"}', answer)) for _, answer in (direct(url, body), converted(url, body))]
    assert spoken[0] == spoken[1] and spoken[0].startswith(b"Sure")


def cached(url: str, path: str, words: str, **more: Any) -> int:
    """How many tokens of the prompt came from the cache."""
    body = {"messages": [{"role": "user", "content": words}], "max_tokens": 1, **more}
    if path == "/v1/responses":
        body = {"input": words, "max_output_tokens": 1, **more}
    usage = ask(url, path, body).body["usage"]
    found = (
        usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {"cached_tokens": usage.get("cache_read_input_tokens")}
    )
    return int(found["cached_tokens"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_these_routes_keep_the_slot_and_what_is_said_of_the_cache(url: str, path: str) -> None:
    words = f"Of {path}, again and again and again."
    for slot in (0, 1):
        assert cached(url, path, words, id_slot=slot) < len(words)
        assert cached(url, path, words, id_slot=slot) > len(words)
        assert cached(url, path, words, id_slot=slot, cache_prompt=False) == 0


def test_messages_drop_both_which_is_why_they_are_converted(url: str) -> None:
    words = "Of messages, again and again and again."
    cached(url, "/v1/chat/completions", words, id_slot=0)
    cached(url, "/v1/chat/completions", "Something else, so that slot 1 holds nothing of it.", id_slot=1)
    assert cached(url, "/v1/messages", words, id_slot=1, cache_prompt=False) > len(words)

"""A chat completion as the message of Anthropic's that llama-server itself would answer."""

from __future__ import annotations

from typing import Any

import pytest

from paddock_gateway.convert.anthropic import whole
from paddock_gateway.errors import Failure

USAGE = {"completion_tokens": 3, "prompt_tokens": 24, "total_tokens": 27, "prompt_tokens_details": {"cached_tokens": 23}}


def completion(message: dict[str, Any], reason: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"finish_reason": reason, "index": 0, "message": {"role": "assistant", "content": "", **message}}
    return {"id": "chatcmpl-1", "model": "qwen", "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def call(arguments: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "clock", "arguments": arguments}, **more}


def test_words_become_a_message_with_what_came_from_the_cache() -> None:
    assert whole(completion({"content": "Hello"})) == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello"}],
        "model": "qwen",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"cache_read_input_tokens": 23, "input_tokens": 1, "output_tokens": 3},
    }


def test_thinking_comes_first_and_calls_last() -> None:
    message = {"content": "Wait", "reasoning_content": "hm", "tool_calls": [call('{"zone":"UTC"}', id="a"), call("{", id="b"), call("")]}
    answer = whole(completion(message, "tool_calls"))
    assert answer["stop_reason"] == "tool_use"
    assert answer["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Wait"},
        {"type": "tool_use", "id": "a", "name": "clock", "input": {"zone": "UTC"}},
        {"type": "tool_use", "id": "b", "name": "clock", "input": {}},
        {"type": "tool_use", "id": "", "name": "clock", "input": {}},
    ]


def test_nothing_said_is_no_block() -> None:
    assert whole(completion({"content": None}, "length"))["content"] == []


@pytest.mark.parametrize(("reason", "expected"), [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use")])
def test_why_it_ended_is_told_in_anthropics_words(reason: str, expected: str) -> None:
    assert whole(completion({}, reason))["stop_reason"] == expected


@pytest.mark.parametrize(("told", "expected"), [({"stopping_word": "END"}, "END"), ({"stopping_word": ""}, None), ({}, None)])
def test_the_word_that_ended_it_is_named(told: dict[str, str], expected: str | None) -> None:
    assert whole(completion({}, __verbose=told))["stop_sequence"] == expected


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": 5, "usage": {}}, completion({}, "?"), completion({"tool_calls": [5]})])
def test_an_answer_that_is_none_is_the_back_ends_fault(answer: dict[str, Any]) -> None:
    with pytest.raises(Failure) as refused:
        whole(answer)
    assert refused.value.status == 502

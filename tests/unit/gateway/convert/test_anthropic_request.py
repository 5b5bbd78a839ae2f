"""A request of Anthropic's messages as the chat completion that llama-server itself would make of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from paddock_gateway.convert.anthropic import request
from paddock_gateway.convert.converter import CONVERTERS
from paddock_gateway.errors import Failure

HI = {"role": "user", "content": "hi"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
LINKED = {"type": "image", "source": {"type": "url", "url": "http://192.0.2.1/a.png"}}
CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Zürich", "days": [1, None]}}
CALLED = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich","days":[1,null]}'}}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
BY_URL = {"type": "image_url", "image_url": {"url": "http://192.0.2.1/a.png"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def result(content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": True}


def answered(content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "t1", "content": content}


MESSAGES: dict[str, tuple[list[Any], list[Any]]] = {
    "words go as they are, with whatever stands beside them": ([{**HI, "name": "me"}], [{**HI, "name": "me"}]),
    "so does nothing": ([{"role": "user", "content": None}], [{"role": "user", "content": None}]),
    "blocks of text keep their marks": (
        [said("user", {**text("a"), "cache_control": {"type": "ephemeral"}})],
        [said("user", {**text("a"), "cache_control": {"type": "ephemeral"}})],
    ),
    "images, inline and by address": ([said("user", text("see"), IMAGE, LINKED)], [said("user", text("see"), INLINE, BY_URL)]),
    "an image without a kind is a JPEG": (
        [said("user", {"type": "image", "source": {"type": "base64", "data": "aGk="}})],
        [said("user", {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}})],
    ),
    "what llama-server does not know is left out": (
        [said("user", {"type": "document"}, {"type": "image", "source": {"type": "file"}}, {"type": "image"}, {}, text("a"))],
        [said("user", text("a"))],
    ),
    "a message that is empty then, too": ([said("user", {"type": "document"}), said("user"), HI], [HI]),
    "an assistant that says nothing, too": ([HI, {"role": "assistant"}], [HI]),
    "thinking, text and a call": (
        [said("assistant", {"type": "thinking", "thinking": "hm", "signature": "s"}, text("wait"), CALL)],
        [{**said("assistant", text("wait")), "tool_calls": [CALLED], "reasoning_content": "hm"}],
    ),
    "thoughts follow each other": (
        [
            said(
                "assistant",
                {"type": "thinking", "thinking": "a"},
                {"type": "redacted_thinking", "data": "?"},
                {"type": "thinking", "thinking": "b"},
            )
        ],
        [{"role": "assistant", "content": "", "reasoning_content": "ab"}],
    ),
    "a call alone": ([said("assistant", CALL)], [{"role": "assistant", "content": "", "tool_calls": [CALLED]}]),
    "a call without anything": (
        [said("assistant", {"type": "tool_use", "input": None})],
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "", "type": "function", "function": {"name": "", "arguments": "{}"}}]}],
    ),
    "results come after what was said beside them": (
        [said("user", result("sunny"), text("and?"))],
        [said("user", text("and?")), answered("sunny")],
    ),
    "a result of texts is one text": ([said("user", result([text("a"), {"type": "?"}, text("b")]))], [answered("ab")]),
    "a result with an image is parts": ([said("user", result([text("a"), IMAGE, LINKED]))], [answered([text("a"), INLINE, BY_URL])]),
    "a result that is nothing": ([said("user", result(None), result([]))], [answered(""), answered("")]),
}


@pytest.mark.parametrize(("given", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_messages_become_those_of_a_chat(given: list[Any], expected: list[Any]) -> None:
    assert request({"messages": given, "max_tokens": 5}) == {"messages": expected, "max_tokens": 5}


HEADER = "x-anthropic-billing-header: cc_version=2.1.101.e51; cch={};You are Claude Code."

SYSTEMS: dict[str, tuple[Any, str]] = {
    "words": ("be kind", "be kind"),
    "no words": ("", ""),
    "blocks, one after the other": ([text("be "), {"type": "?"}, {"type": "text"}, text("kind")], "be kind"),
    "a stamp that changes is made the same": (HEADER.format("a5145"), HEADER.format("fffff")),
    "in a block, too": ([text(HEADER.format("a5145")), text("cch=a5145;")], HEADER.format("fffff") + "cch=a5145;"),
    "a stamp of another length stays": (HEADER.format("a514"), HEADER.format("a514")),
    "so does a header that ends with it": ("x-anthropic-billing-header: cch=a5145", "x-anthropic-billing-header: cch=a5145"),
    "and one without": ("x-anthropic-billing-header: ;", "x-anthropic-billing-header: ;"),
    "and a stamp elsewhere": ("Say cch=a5145; now", "Say cch=a5145; now"),
}


@pytest.mark.parametrize(("given", "expected"), SYSTEMS.values(), ids=SYSTEMS)
def test_the_system_prompt_is_the_first_message(given: Any, expected: str) -> None:
    assert request({"system": given, "messages": [HI]})["messages"] == [{"role": "system", "content": expected}, HI]


TOOL = {"name": "clock", "description": "The time", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
FUNCTION = {"type": "function", "function": {"name": "clock", "description": "The time", "parameters": {"type": "object"}}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
SEARCHING = {"type": "function", "function": {"name": "web_search", "description": "", "parameters": {}}}

FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"max_tokens": 4096}),
    ({"max_tokens": 7}, {"max_tokens": 7}),
    ({"max_tokens": 7.0}, {"max_tokens": 7}),
    ({"max_tokens": None}, {"max_tokens": None}),
    ({"model": "qwen"}, {"model": "qwen", "max_tokens": 4096}),
    ({"system": None}, {"max_tokens": 4096}),
    *(
        ({"max_tokens": 7, **given}, {"max_tokens": 7, **expected})
        for given, expected in (
            ({"tools": [TOOL, SEARCH]}, {"tools": [FUNCTION, SEARCHING]}),
            ({"tools": []}, {"tools": []}),
            ({"tools": None}, {}),
            ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
            ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
            ({"tool_choice": {"type": "tool", "name": "clock"}}, {"tool_choice": "required"}),
            ({"tool_choice": {"type": "none"}}, {}),
            ({"tool_choice": None}, {}),
            ({"stop_sequences": ["END", "."]}, {"stop": ["END", "."]}),
            ({"stop_sequences": "END"}, {"stop": "END"}),
            ({"stop_sequences": None}, {"stop": None}),
            ({"temperature": 0.5, "top_p": 1, "top_k": 40, "stream": True}, {"temperature": 0.5, "top_p": 1, "top_k": 40, "stream": True}),
            ({"temperature": None, "stream": None}, {"temperature": None, "stream": None}),
            ({"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}}),
            ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"thinking_budget_tokens": 2000}),
            ({"thinking": {"type": "enabled"}}, {"thinking_budget_tokens": 10000}),
            ({"thinking": {"type": "disabled"}}, {}),
            ({"metadata": {"user_id": "user_1"}}, {"__metadata_user_id": "user_1"}),
            ({"metadata": {"user_id": None}}, {}),
            ({"id_slot": 3, "cache_prompt": True, "grammar": "root ::= .", "seed": 1, "service_tier": "auto"}, {}),
        )
    ),
]


@pytest.mark.parametrize(("given", "expected"), FIELDS)
def test_fields_are_renamed_kept_or_left_out(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert request({"messages": [HI], **given}) == {"messages": [HI], **expected}


def test_the_callers_body_is_not_changed() -> None:
    body = {"model": "m", "system": [text("a")], "messages": [said("user", text("a"), IMAGE), said("assistant", CALL)], "tools": [TOOL]}
    before = orjson.dumps(body)
    _, asked = CONVERTERS["/v1/messages"].request(body)
    asked.update(id_slot=1, cache_prompt=False, stream=True, model="other")
    assert orjson.dumps(body) == before


def test_the_back_end_is_asked_for_what_an_anthropic_answer_tells_besides() -> None:
    path, asked = CONVERTERS["/v1/messages"].request({"messages": [HI]})
    assert path == "/v1/chat/completions"
    assert asked["stream_options"] == {"include_usage": True} and asked["return_progress"]
    assert asked["verbose"] and asked["response_fields"] == ["stopping_word"]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "'messages' is required"),
    ({"messages": None}, "Expected 'messages' to be an array"),
    ({"messages": [5]}, "messages[0]: expected an object, got a number"),
    ({"messages": [HI, {"content": "hi"}]}, "messages[1]: Missing 'role' in message"),
    ({"messages": [{"role": 5, "content": "hi"}]}, "messages[0].role: expected a string, got a number"),
    ({"messages": [{"role": "user"}]}, "messages[0]: All non-assistant messages must contain 'content'"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0]: Expected 'content' to be a string or an array"),
    ({"messages": [said("user", text("a"), "b")]}, "messages[0].content[1]: expected an object, got a string"),  # type: ignore[arg-type]
    ({"messages": [said("user", {"type": "text"})]}, "messages[0].content[0].text: expected a string, got nothing"),
    ({"messages": [said("user", {"type": "image", "source": "x"})]}, "messages[0].content[0].source: expected an object, got a string"),
    (
        {"messages": [said("user", {"type": "image", "source": {"type": "base64", "data": 1}})]},
        "messages[0].content[0].source.data: expected a string, got a number",
    ),
    ({"messages": [said("assistant", {**CALL, "id": []})]}, "messages[0].content[0].id: expected a string, got an array"),
    ({"messages": [said("assistant", {**CALL, "input": nested(300)})]}, "messages[0].content[0].input: Recursion limit reached"),
    ({"messages": [said("user", result(True))]}, "messages[0].content[0].content: expected a string or an array of blocks, got true"),
    ({"messages": [said("user", result([text("a"), 5]))]}, "messages[0].content[0].content[1]: expected an object, got a number"),
    ({"messages": [HI], "system": 5}, "system: expected a string or an array of text blocks, got a number"),
    ({"messages": [HI], "system": ["a"]}, "system[0]: expected an object, got a string"),
    ({"messages": [HI], "tools": {}}, "tools: expected an array, got an object"),
    ({"messages": [HI], "tools": [{"name": 5}]}, "tools[0].name: expected a string, got a number"),
    ({"messages": [HI], "tools": [{"input_schema": "x"}]}, "tools[0].input_schema: expected an object, got a string"),
    ({"messages": [HI], "tool_choice": "any"}, "tool_choice: expected an object, got a string"),
    ({"messages": [HI], "stop_sequences": [5]}, "stop_sequences: expected an array of strings, got an array"),
    ({"messages": [HI], "max_tokens": "5"}, "max_tokens: expected a number, got a string"),
    ({"messages": [HI], "max_tokens": 2**31}, "max_tokens: expected a whole number up to 2147483647, got a number"),
    ({"messages": [HI], "max_tokens": 1.5}, "max_tokens: expected a whole number up to 2147483647, got a number"),
    ({"messages": [HI], "temperature": False}, "temperature: expected a number, got false"),
    ({"messages": [HI], "stream": 1}, "stream: expected true or false, got a number"),
    ({"messages": [HI], "thinking": {"type": "enabled", "budget_tokens": {}}}, "thinking.budget_tokens: expected a number, got an object"),
    ({"messages": [HI], "metadata": {"user_id": 5}}, "metadata.user_id: expected a string, got a number"),
    ({"messages": [HI], "chat_template_kwargs": []}, "chat_template_kwargs: expected an object, got an array"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_meant_is_refused_with_its_place(given: dict[str, Any], message: str) -> None:
    with pytest.raises(Failure) as refused:
        request(given)
    assert (refused.value.status, refused.value.message) == (400, message)

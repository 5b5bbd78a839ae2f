"""Whatever JSON comes, from a caller or from a back end: an answer, or a failure in words."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock_gateway.convert.converter import CONVERTERS
from paddock_gateway.errors import Failure

CONVERTER = CONVERTERS["/v1/messages"]

KEYS = [
    "role",
    "content",
    "type",
    "text",
    "source",
    "url",
    "input",
    "id",
    "thinking",
    "messages",
    "system",
    "index",
    "function",
    "choices",
    "delta",
]
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.sampled_from(["", "text", "user", "é\x00"])
)
JSON = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(KEYS), each, max_size=3), max_leaves=6
)

BODY = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "x-anthropic-billing-header: cch=a5145;"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "base64", "data": "aGk="}}]},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "a"}, {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}],
        },
    ],
    "tools": [{"name": "n", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any"},
    "stop_sequences": ["a"],
    "temperature": 0.5,
    "top_k": 5,
    "stream": True,
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "metadata": {"user_id": "u"},
    "chat_template_kwargs": {},
}
CALL = {"index": 0, "id": "t", "type": "function", "function": {"name": "n", "arguments": "{}"}}
SAID = {"role": "assistant", "content": "a", "reasoning_content": "b", "tool_calls": [CALL]}
USAGE = {"completion_tokens": 1, "prompt_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
TOLD = {"id": "c", "model": "m", "usage": USAGE, "__verbose": {"stopping_word": "a"}}
ANSWER = {"choices": [{"finish_reason": "stop", "message": SAID}], **TOLD}
CHUNK = {"choices": [{"finish_reason": "stop", "delta": SAID}], **TOLD, "prompt_progress": {"total": 2, "cache": 1}}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value, as container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@st.composite
def spoilt(draw: st.DrawFn, whole: dict[str, Any]) -> dict[str, Any]:
    """The value with something else, or nothing, at one or two of its places."""
    value: dict[str, Any] = orjson.loads(orjson.dumps(whole))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(value) or [(value, "model")]))
        if draw(st.booleans()):
            container[key] = draw(JSON)
        else:
            del container[key]
    return value


def test_what_is_not_spoilt_passes() -> None:
    CONVERTER.request(BODY)
    CONVERTER.whole(ANSWER)
    assert CONVERTER.stream().feed(CHUNK).endswith(b'{"type":"message_stop"}\n\n')


@settings(deadline=None)
@given(spoilt(BODY) | st.dictionaries(st.sampled_from(KEYS), JSON))
def test_a_request_passes_or_is_refused_in_words(body: dict[str, Any]) -> None:
    try:
        _, asked = CONVERTER.request(body)
    except Failure as failure:
        assert failure.status == 400 and failure.message
    else:
        assert orjson.dumps(asked)


@settings(deadline=None)
@given(spoilt(ANSWER))
def test_an_answer_passes_or_is_the_back_ends_fault(answer: dict[str, Any]) -> None:
    try:
        assert CONVERTER.whole(answer)["type"] == "message"
    except Failure as failure:
        assert failure.status == 502 and failure.message


@settings(deadline=None)
@given(st.lists(spoilt(CHUNK), min_size=1, max_size=3))
def test_a_stream_passes_or_is_the_back_ends_fault(chunks: list[dict[str, Any]]) -> None:
    stream = CONVERTER.stream()
    try:
        written = b"".join(map(stream.feed, chunks)) + stream.end()
    except Failure as failure:
        assert failure.status == 502 and stream.fail(failure).startswith(b"event: error\n")
    else:
        assert written.startswith(b"event: ") and written.endswith(b"\n\n")

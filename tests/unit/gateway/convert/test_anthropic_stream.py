"""Chunks of a chat completion as the events that llama-server itself would stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from paddock_gateway.convert.anthropic_stream import Stream
from paddock_gateway.errors import Failure

PROGRESS = {"total": 24, "cache": 20, "processed": 24, "time_ms": 0}
ROLE = {"role": "assistant", "content": None}
USAGE = {"completion_tokens": 3, "prompt_tokens": 24, "total_tokens": 27, "prompt_tokens_details": {"cached_tokens": 20}}


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"finish_reason": reason, "index": 0, "delta": delta}
    return {"choices": [choice], "created": 1, "id": "chatcmpl-1", "model": "qwen", "object": "chat.completion.chunk", **more}


def tool(index: int, arguments: str = "", **named: str) -> dict[str, Any]:
    """`named` is its id and name, where it is new."""
    call: dict[str, Any] = {"index": index, "function": {}}
    if named:
        call |= {"id": named["id"], "type": "function"}
        call["function"]["name"] = named["name"]
    if arguments:
        call["function"]["arguments"] = arguments
    return {"tool_calls": [call]}


def begins(stream: Stream) -> bytes:
    assert stream.feed(chunk(ROLE, prompt_progress={**PROGRESS, "processed": 20})) == b""
    assert stream.feed(chunk(ROLE, prompt_progress=PROGRESS)) == b""
    return stream.feed(chunk(ROLE))


def ends(stream: Stream, reason: str = "stop", word: str = "") -> bytes:
    last = stream.feed(chunk({}, reason, __verbose={"stopping_word": word}))
    return last + stream.feed({"choices": [], "id": "chatcmpl-1", "model": "qwen", "usage": USAGE})


def events(written: bytes) -> list[dict[str, Any]]:
    """Each event is a line with its name and a line with its data, which has the same name."""
    found = []
    for event in written.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(orjson.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_words_are_streamed_in_the_bytes_of_llama_server() -> None:
    stream = Stream()
    assert begins(stream) == (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant",'
        b'"content":[],"model":"qwen","stop_reason":null,"stop_sequence":null,'
        b'"usage":{"cache_read_input_tokens":20,"input_tokens":4,"output_tokens":0}}}\n\n'
    )
    assert stream.feed(chunk({"content": 'Voilà "a"\n\x1f'})) == (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":"Voil\xc3\xa0 \\"a\\"\\n\\u001f"}}\n\n'
    )
    assert stream.feed(chunk({"content": " b"})) == (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" b"}}\n\n'
    )
    assert ends(stream) == (
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        b'"usage":{"output_tokens":3}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert stream.end() == b""


def test_thinking_words_and_calls_are_blocks_one_after_the_other() -> None:
    stream = Stream()
    deltas = [
        {"reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "Wait"},
        tool(0, '{"a"', id="t1", name="clock"),
        tool(0, ":1}"),
        tool(1, id="t2", name="weather"),
    ]
    written = begins(stream) + b"".join(stream.feed(chunk(delta)) for delta in deltas) + ends(stream, "tool_calls")
    assert events(written)[1:] == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Wait"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t1", "name": "clock"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "t2", "name": "weather"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": ""}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_stop", "index": 2},
        {"type": "content_block_stop", "index": 3},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]


def test_a_call_without_words_is_the_first_block() -> None:
    stream = Stream()
    begins(stream)
    assert events(stream.feed(chunk(tool(0, id="t1", name="clock"))))[0]["index"] == 0


def test_the_word_that_ended_it_is_named() -> None:
    stream = Stream()
    begins(stream)
    assert events(ends(stream, word="END"))[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": "END"}


def test_words_without_a_role_before_them_begin_the_message() -> None:
    stream = Stream()
    stream.feed(chunk(ROLE, prompt_progress=PROGRESS))
    assert [event["type"] for event in events(stream.feed(chunk({"content": "é"})))] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
    ]


def test_an_answer_that_is_empty_begins_too() -> None:
    stream = Stream()
    stream.feed(chunk(ROLE, prompt_progress=PROGRESS))
    assert [event["type"] for event in events(ends(stream, "length"))] == ["message_start", "message_delta", "message_stop"]


def test_words_of_the_caller_that_go_on_begin_the_message_with_its_usage() -> None:
    stream = Stream()
    assert stream.feed(chunk(ROLE)) == b""
    start, *_, delta = events(stream.feed(chunk({"content": "Sure"}, prompt_progress=PROGRESS)))
    assert start["message"]["usage"] == {"cache_read_input_tokens": 20, "input_tokens": 4, "output_tokens": 0}
    assert delta["delta"]["text"] == "Sure"


def test_an_answer_whose_usage_never_comes_ends_all_the_same() -> None:
    stream = Stream()
    begins(stream)
    stream.feed(chunk({}, "stop"))
    assert [event["type"] for event in events(stream.end())] == ["message_delta", "message_stop"]


def test_an_answer_that_breaks_off_says_so_and_nothing_after_it() -> None:
    stream = Stream()
    begins(stream)
    stream.feed(chunk({"content": "Hel"}))
    assert stream.end() == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"The back end broke off its answer."}}\n\n'
    )
    assert stream.feed(chunk({"content": "lo"})) == stream.end() == stream.fail(Failure(502, "Too late")) == b""


def test_a_failure_of_the_gateways_is_told_in_anthropics_shape() -> None:
    assert events(Stream().fail(Failure(503, "No back end is left"))) == [
        {"type": "error", "error": {"type": "overloaded_error", "message": "No back end is left"}}
    ]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ({"code": 500, "message": "slot lost", "type": "server_error"}, 500, "slot lost"),
        ({"code": 9, "message": 5}, 502, "The back end failed."),
        ("no", 502, "The back end failed."),
    ],
)
def test_an_error_of_the_back_ends_is_raised_in_its_words(error: Any, status: int, message: str) -> None:
    with pytest.raises(Failure) as raised:
        Stream().feed({"error": error})
    assert (raised.value.status, raised.value.message) == (status, message)


@pytest.mark.parametrize("no_chunk", [{}, {"choices": 5}, chunk({}, "?"), chunk({"content": {1, 2}}), chunk({"tool_calls": ["x"]}), [], 5])
def test_what_is_no_chunk_is_the_back_ends_fault(no_chunk: Any) -> None:
    with pytest.raises(Failure) as raised:
        Stream().feed(no_chunk)
    assert raised.value.status == 502

"""Unstreamed answers: asked for as a stream, put together as llama-server has them (0.3.36, tools/server/server-task.cpp)."""

import json
from typing import Any

import pytest
from aiohttp import web

from paddock_gateway.contract import Used
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, gateway, raw_backend, run
from tests.unit.gateway.proxy.scripted import DONE, HELLO, TIMINGS, USAGE, chat, chunk, json_answer, streaming

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}


def answered(path: str, asked: Any, *events: bytes) -> tuple[Any, Any]:
    """The answer, and what went up."""

    async def test() -> tuple[Any, Any]:
        async with BackendUnderTest(streaming(*events)).serving() as backend, gateway(backend.url) as under:
            under.places.slot = None
            status, said, headers = await under.post(path, asked)
            assert status == 200, said
            assert headers["Content-Type"].startswith("application/json")
            assert under.places.settled[0][2] is True
            return json.loads(said), backend.asked[0].body

    return run(test())


def test_a_chat_is_put_together() -> None:
    events = [*HELLO[:3], chunk({}, finish_reason="stop", system_fingerprint="b1"), chunk(usage=USAGE, timings=TIMINGS), DONE]
    said, up = answered("/v1/chat/completions", chat(), *events)
    assert up == {**chat(), "stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
    message = {"role": "assistant", "content": "Hello"}
    assert said.pop("created") == 1
    assert list(said) == ["choices", "model", "system_fingerprint", "object", "usage", "id", "timings"]
    assert said["choices"] == [{"finish_reason": "stop", "index": 0, "message": message}]
    assert (said["object"], said["usage"], said["timings"]) == ("chat.completion", USAGE, TIMINGS)


def test_tool_calls_and_reasoning_are_put_together() -> None:
    events = [
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "Let me "}),
        chunk({"reasoning_content": "see"}),
        chunk({"tool_calls": [CALL]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
        chunk({}, finish_reason="tool_calls"),
        chunk(usage=USAGE, timings=TIMINGS),
        DONE,
    ]
    said, _ = answered("/v1/chat/completions", chat(), *events)
    assert said["choices"][0] == {
        "finish_reason": "tool_calls",
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Let me see",
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, "id": "c1"},
                {"type": "function", "function": {"name": "g", "arguments": "{}"}, "id": "c2"},
            ],
        },
    }


def test_several_answers_to_one_prompt_are_each_whole() -> None:
    events = [
        chunk({"content": "a"}, index=0),
        chunk({"content": "b"}, index=1),
        chunk({}, finish_reason="length", index=1),
        chunk(usage={**USAGE, "completion_tokens": 1}),
        chunk({}, finish_reason="stop", index=0),
        chunk(usage=USAGE),
        DONE,
    ]
    said, _ = answered("/v1/chat/completions", chat(n=2), *events)
    assert [(choice["message"]["content"], choice["finish_reason"]) for choice in said["choices"]] == [("a", "stop"), ("b", "length")]
    assert said["usage"] == USAGE, "the first one's, as llama-server has it"


def test_a_completion_and_a_native_one_are_put_together() -> None:
    def text(said: str, end: str | None = None, **more: Any) -> bytes:
        choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": end}
        return b"data: " + json.dumps({"choices": [choice], "created": 1, "model": "small", "id": "i", **more}).encode() + b"\n\n"

    said, _ = answered("/v1/completions", {"model": "small", "prompt": "x"}, text("He"), text("llo"), text("", "stop", usage=USAGE), DONE)
    assert said["choices"] == [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert said["usage"] == USAGE

    native = [
        {"index": 0, "content": "He", "stop": False},
        {"index": 0, "content": "llo", "stop": False},
        {"index": 0, "content": "", "stop": True, "generation_settings": {"stream": True}, "timings": TIMINGS},
    ]
    events = [b"data: " + json.dumps(each, separators=(",", ":")).encode() + b"\n\n" for each in native]
    said, _ = answered("/completion", {"model": "small", "prompt": "x"}, *events)
    assert (said["content"], said["generation_settings"]) == ("Hello", {"stream": False})


def test_a_response_is_the_last_events() -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}
    response = {"id": "r", "object": "response", "created_at": 5, "status": "completed", "model": "small", "output": [item]}
    usage = {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 2}}
    last = {"type": "response.completed", "response": {**response, "usage": usage}}
    said, _ = answered(
        "/v1/responses",
        {"model": "small", "input": "x"},
        b'event: response.created\ndata: {"type":"response.created"}\n\n',
        b"event: response.completed\ndata: " + json.dumps(last).encode() + b"\n\n",
    )
    assert said == {**response, "completed_at": 5, "output": [{**item, "status": "completed"}], "usage": usage}


@pytest.mark.parametrize("field", [{"logprobs": True}, {"n_probs": 2}, {"verbose": True}])
def test_what_a_stream_does_not_carry_goes_up_unstreamed(field: dict[str, Any]) -> None:
    async def test() -> None:
        answer = {"choices": [], "usage": USAGE, "model": "small"}
        async with BackendUnderTest(json_answer(answer)).serving() as backend, gateway(backend.url) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat(**field))
            assert (status, json.loads(said)) == (200, answer)
            assert "stream" not in backend.asked[0].body
            assert under.places.settled[0][1:] == (Used(5, 2, 2), True)

    run(test())


@pytest.mark.parametrize("event", [b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":9}]}}]}\n\n', b'data: {"choices":3}\n\n'])
def test_events_that_make_no_answer_are_an_error_of_the_back_end(event: bytes) -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(event, *HELLO)).serving() as backend, gateway(backend.url) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat())
            assert (status, json.loads(said)["error"]["code"]) == (502, "backend_failed")
            assert under.places.settled[0][2] is False

    run(test())


def test_an_error_about_the_request_comes_as_the_back_end_says_it() -> None:
    error = {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}}

    async def test() -> None:
        async with BackendUnderTest(json_answer(error, 400)).serving() as backend, gateway(backend.url) as under:
            for stream in (True, False):
                status, said, _ = await under.post("/v1/chat/completions", chat(stream=stream))
                assert (status, json.loads(said)) == (400, error)
            status, said, _ = await under.post("/v1/messages", chat())
            assert status == 400 and json.loads(said) == {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "too long"},
            }
            assert {row.status_code for row in under.log.rows} == {400} and not under.places.running
            assert under.upstream.pool["b0"].up

    run(test())


def test_a_kept_connection_that_closed_as_the_request_left_is_opened_anew() -> None:
    """llama-server closes an idle connection after 5 s, or 100 requests, whenever that is."""
    asked = 0

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            assert request.transport
            request.transport.abort()
        return web.json_response({"tokens": [1]})

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url) as under:
            for _ in range(2):
                status, said, _ = await under.post("/tokenize", {"model": "small", "content": "x"})
                assert (status, said) == (200, b'{"tokens": [1]}')
            assert asked == 3

    run(test())


def test_vectors_go_through_unread_and_their_tokens_are_counted() -> None:
    answer = {"model": "small", "usage": {"prompt_tokens": 7, "total_tokens": 7}, "data": [{"embedding": [0.123456789] * 5000}]}

    async def test() -> None:
        async with BackendUnderTest(json_answer(answer)).serving() as backend, gateway(backend.url) as under:
            _, said, _ = await under.post("/v1/embeddings", {"model": "small", "input": "x"})
            assert json.loads(said) == answer
            assert (await under.row()).prompt_tokens == 7

    run(test())


def test_a_form_goes_up_as_it_came_with_the_models_id() -> None:
    form = (
        b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\0\r\n\xff--B\r\n--B--\r\n'
    )

    async def test() -> None:
        async with BackendUnderTest(json_answer({"text": "hi"})).serving() as backend, gateway(backend.url) as under:
            headers = {"Content-Type": "multipart/form-data; boundary=B"}
            status, _, _ = await under.post("/v1/audio/transcriptions", form, headers=headers)
            assert status == 200
            assert backend.asked[0].raw == form.replace(b"fast", b"small")
            for broken in (form[:90], b"--B--", b""):
                status, _, _ = await under.post("/v1/audio/transcriptions", broken, headers=headers)
                assert status == 400
            status, _, _ = await under.post("/v1/audio/transcriptions", {"model": "small"})
            assert status == 415

    run(test())


def test_an_answer_of_another_kind_of_server_is_refused() -> None:
    async def test() -> None:
        async with (
            raw_backend(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>") as url,
            gateway(url) as under,
        ):
            for stream in (True, False):
                status, said, _ = await under.post("/v1/chat/completions", chat(stream=stream))
                assert status in (502, 503) and b"<html>" not in said

    run(test())

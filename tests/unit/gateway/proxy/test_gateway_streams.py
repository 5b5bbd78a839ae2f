"""Streams through the gateway: unchanged, unbuffered, with a heartbeat, and with their death told."""

import asyncio
import json

import pytest
from aiohttp import web

from paddock_gateway.contract import Used
from paddock_gateway.proxy.outgoing import COMMENT
from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, Places, gateway, raw_backend, run
from tests.unit.gateway.proxy.scripted import DONE, HELLO, TIMINGS, chat, chunk, streaming


def test_a_stream_goes_through_byte_for_byte() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            status, said, headers = await under.post("/v1/chat/completions", chat(stream=True))
            assert (status, said) == (200, b"".join(HELLO))
            assert headers["Content-Type"] == "text/event-stream"
            assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
            assert (headers["X-Queue-Position"], headers["X-Queue-Wait"]) == ("0", "0.0")
            assert "llama" not in headers.get("Server", "")
            ((place, used, whole),) = under.places.settled
            assert (place.backend, used, whole) == ("b0", Used(5, 2, 2), True)

    run(test())


def test_what_goes_up_is_what_came_but_for_what_the_gateway_sets() -> None:
    raw = b'{ "model" : "small",\n "messages":[ {"role":"user", "content":"\\u00e9 1.50"} ],"temperature":0.10, "stream" : true}'

    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            under.places.slot = None
            await under.post("/v1/chat/completions", raw)
            assert backend.asked[0].raw == raw
            under.places.slot, under.places.cache = 2, False
            await under.post("/v1/chat/completions", raw[:-1] + b', "id_slot": 7, "cache_prompt":true}')
            up = backend.asked[1].body
            assert (up.pop("id_slot"), up.pop("cache_prompt")) == (2, False)
            assert up == json.loads(raw)
            assert b'[ {"role":"user", "content":"\\u00e9 1.50"} ]' in backend.asked[1].raw
            assert b":0.10," in backend.asked[1].raw

    run(test())


def test_headers_that_name_a_stream_or_a_key_do_not_go_up() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            sent = {"X-Conversation-Id": "c", "X-Request-Id": "r-1", "Cookie": "a=b", "anthropic-version": "2023-06-01", "Te": "trailers"}
            _, _, headers = await under.post("/v1/chat/completions", chat(stream=True), headers=sent)
            up = {name.lower(): value for name, value in backend.asked[0].headers.items()}
            assert not up.keys() & {"x-conversation-id", "authorization", "cookie", "te"}
            assert (up["x-request-id"], up["anthropic-version"], up["connection"]) == ("r-1", "2023-06-01", "close")
            assert headers["X-Request-Id"] == "r-1" and (await under.row()).request_id == "r-1"

    run(test())


def test_an_alias_is_asked_by_its_id_and_answered_by_its_alias() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            _, said, _ = await under.post("/v1/chat/completions", chat(model="fast", stream=True))
            assert backend.asked[0].body["model"] == "small"
            assert said == b"".join(HELLO).replace(b'"model":"small"', b'"model":"fast"')
            assert (await under.row()).model == "small"

    run(test())


def test_a_usage_that_the_caller_asked_for_stays() -> None:
    events = [*HELLO[:3], chunk({}, finish_reason="stop"), chunk(usage={"prompt_tokens": 9, "completion_tokens": 2}, timings=TIMINGS), DONE]

    async def test() -> None:
        async with BackendUnderTest(streaming(*events)).serving() as backend, gateway(backend.url) as under:
            _, said, _ = await under.post("/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}))
            assert said == b"".join(events)
            row = await under.row()
            assert (row.prompt_tokens, row.completion_tokens, row.username) == (9, 2, "anna")
            assert row.ttft_ms is not None and row.ttft_ms <= row.duration_ms

    run(test())


def test_each_event_comes_before_the_next_is_written() -> None:
    """No buffer between: the back end goes on only when the caller has seen what it wrote."""
    seen = asyncio.Event()

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in HELLO:
            seen.clear()
            await response.write(event)
            await seen.wait()
        return response

    async def test() -> None:
        async with (
            BackendUnderTest(answer).serving() as backend,
            gateway(backend.url) as under,
            under.session.post(
                under.url + "/v1/chat/completions", json=chat(stream=True), headers={"Authorization": f"Bearer {KEY}"}
            ) as response,
        ):
            for event in HELLO:
                assert await response.content.readuntil(b"\n\n") == event
                seen.set()

    run(test())


def test_a_heartbeat_comes_while_the_prompt_is_read_and_while_the_request_waits() -> None:
    async def test() -> None:
        places = Places(slots=0)
        async with (
            BackendUnderTest(streaming(*HELLO)).serving() as backend,
            gateway(backend.url, places=places, heartbeat_s=0.01) as under,
            under.session.post(under.url + "/v1/chat/completions", json=chat(stream=True), headers={"x-api-key": KEY}) as response,
        ):
            assert (response.status, response.headers["X-Queue-Position"], response.headers["X-Queue-Wait"]) == (200, "3", "1.5")
            for _ in range(3):
                assert await response.content.readuntil(b"\n\n") == COMMENT
            async with places.free:
                places.slots = 1
                places.free.notify_all()
            rest = await response.content.read()
            assert rest.replace(COMMENT, b"") == b"".join(HELLO)

    run(test())


@pytest.mark.parametrize(("path", "start"), [("/v1/chat/completions", b'data: {"error":'), ("/v1/messages", b"event: error\ndata: {")])
def test_a_refusal_after_the_heartbeat_is_an_event_in_the_callers_format(path: str, start: bytes) -> None:
    refuse = asyncio.Event()

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        await refuse.wait()
        return web.json_response({"error": {"code": 400, "message": "no such thing", "type": "invalid_request_error"}}, status=400)

    async def test() -> None:
        async with (
            BackendUnderTest(answer).serving() as backend,
            gateway(backend.url, heartbeat_s=0.01) as under,
            under.session.post(under.url + path, json=chat(stream=True), headers={"x-api-key": KEY}) as response,
        ):
            assert await response.content.readuntil(b"\n\n") == COMMENT
            refuse.set()
            said = (await response.content.read()).replace(COMMENT, b"")
            assert said.startswith(start) and b"no such thing" in said and said.endswith(b"\n\n")
            assert (await under.row()).status_code == 400

    run(test())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_dies_half_way_is_told_in_the_callers_format(path: str) -> None:
    async def test() -> None:
        begun = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        half = begun + b"%x\r\n%s\r\n" % (len(HELLO[1]), HELLO[1]) + b"5\r\nda"
        async with raw_backend(half) as url, gateway(url) as under:
            status, said, _ = await under.post(path, chat(stream=True))
            assert status == 200
            if path == "/v1/messages":
                assert said.startswith(b"event: message_start\n") and b'"Hel"' in said
                *_, last = said.removesuffix(b"\n\n").split(b"\n\n")
                assert last.startswith(b"event: error\ndata: ")
                assert json.loads(last.partition(b"data: ")[2])["type"] == "error"
            else:
                assert said.startswith(HELLO[1])
                assert json.loads(said[len(HELLO[1]) :].removeprefix(b"data: "))["error"]["code"] == "backend_failed"
            assert under.places.settled[0][2] is False
            assert (await under.row()).status_code == 502

    run(test())


def test_a_stream_without_its_last_event_is_no_whole_answer() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO[:3])).serving() as backend, gateway(backend.url) as under:
            _, said, _ = await under.post("/v1/chat/completions", chat(stream=True))
            assert b'"backend_failed"' in said and under.places.settled[0][2] is False
            status, said, _ = await under.post("/v1/chat/completions", chat())
            assert status == 502 and b"broke off" in said

    run(test())


def test_an_error_in_a_stream_goes_through_and_ends_it() -> None:
    error = b'data: {"error":{"code":500,"message":"out of memory","type":"server_error"}}\n\n'

    async def test() -> None:
        async with BackendUnderTest(streaming(HELLO[0], error)).serving() as backend, gateway(backend.url) as under:
            status, said, _ = await under.post("/v1/chat/completions", chat(stream=True))
            assert (status, said) == (200, HELLO[0] + error)
            assert under.places.settled[0][2] is False and (await under.row()).status_code == 502
            status, said, _ = await under.post("/v1/chat/completions", chat())
            assert status == 502 and json.loads(said)["error"]["message"] == "out of memory"

    run(test())


def test_many_streams_at_once_are_each_their_own() -> None:
    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        name = json.loads(raw)["messages"][0]["content"]
        return await streaming(*(chunk({"content": f"{name}-{number}"}) for number in range(5)), *HELLO[3:])(request, raw)

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url, places=Places(8)) as under:

            async def one(number: int) -> None:
                asked = chat(stream=True, messages=[{"role": "user", "content": str(number)}])
                _, said, _ = await under.post("/v1/chat/completions", asked)
                assert [f'"{number}-{part}"'.encode() in said for part in range(5)] == [True] * 5

            await asyncio.gather(*(one(number) for number in range(50)))
            assert len(under.log.rows) == 50 and not under.places.running

    run(test())


def test_a_body_may_be_larger_than_what_aiohttp_takes_by_itself() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            text = "x" * (2 * 1024 * 1024)
            status, _, _ = await under.post("/v1/chat/completions", chat(stream=True, messages=[{"role": "user", "content": text}]))
            assert status == 200

    run(test())

"""Connections end: without a request, with half of one, with an answer that nobody takes; and there are never too many."""

import asyncio
import json
from contextlib import suppress

import pytest
from aiohttp import web

from paddock_gateway.app import worded
from paddock_gateway.connections import Runner
from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, GatewayUnderTest, gateway, reset, run, until
from tests.unit.gateway.proxy.scripted import HELLO, Answer, chat, chunk, endless, json_answer, streaming

CHAT = "/v1/chat/completions"
LIVE = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def opened(under: GatewayUnderTest, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = under.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionError):
        return await reader.read()
    return b""


def test_a_head_that_does_not_come_is_told_and_ends_the_connection() -> None:
    async def test() -> None:
        async with gateway("http://127.0.0.1:9", head_s=0.05) as under:
            reader, writer = await opened(under, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: ")
            said = await ended(reader)
            assert said.startswith(b"HTTP/1.1 408 ")
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_slow"
            silent, other = await opened(under)
            assert await ended(silent) == b""
            writer.close()
            other.close()

    run(test())


def test_the_time_for_a_head_does_not_count_for_an_answer() -> None:
    async def test() -> None:
        async with BackendUnderTest(endless(*HELLO[:2])).serving() as backend, gateway(backend.url, head_s=0.02, heartbeat_s=0.02) as under:
            connection = await under.connection(CHAT, chat(stream=True))
            said = b""
            while said.count(b"\n:\n\n") < 4:
                said += await asyncio.get_running_loop().sock_recv(connection, 65536)
            reset(connection)

    run(test())


def test_a_connection_too_many_takes_the_place_of_the_one_that_has_been_idle_longest() -> None:
    async def test() -> None:
        async with gateway("http://127.0.0.1:9", connections=8) as under:
            silent = [await opened(under) for _ in range(64)]
            assert (await under.raw(LIVE)).startswith(b"HTTP/1.1 401 ")
            assert await ended(silent[0][0]) == b""
            assert not silent[-1][0].at_eof()
            for _, writer in silent:
                writer.close()

    run(test())


def test_a_connection_too_many_is_refused_where_all_have_a_request() -> None:
    async def test() -> None:
        async with BackendUnderTest(endless(*HELLO[:2])).serving() as backend, gateway(backend.url, connections=2) as under:
            busy = [await under.connection(CHAT, chat(stream=True)) for _ in range(2)]
            await until(lambda: backend.open == 2)
            refused = await ended((await opened(under))[0])
            assert refused.startswith(b"HTTP/1.1 503 ") and b"too many connections" in refused
            assert backend.open == 2
            for each in busy:
                reset(each)
            await until(lambda: backend.left == 2)
            assert (await under.raw(LIVE)).startswith(b"HTTP/1.1 401 ")

    run(test())


def pouring(of: int) -> Answer:
    piece = chunk({"content": "x" * 65536})

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(of):
            await response.write(piece)
        return response

    return answer


def test_a_caller_that_takes_nothing_of_its_stream_loses_its_slot() -> None:
    async def test() -> None:
        async with BackendUnderTest(pouring(1024)).serving() as backend, gateway(backend.url, stalled_s=0.1, heartbeat_s=0.02) as under:
            connection = await under.connection(CHAT, chat(stream=True), room=4096)
            assert (await under.row()).status_code == 499
            await until(lambda: backend.left == 1)
            assert not under.places.running
            connection.close()

    run(test())


@pytest.mark.parametrize("keeps", ["keep-alive", "close"])
def test_a_caller_that_takes_nothing_of_a_whole_answer_is_cut_off(keeps: str) -> None:
    size = 16 * 1024 * 1024
    answer = json_answer({"data": "x" * size})

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url, stalled_s=0.1) as under:
            raw = json.dumps({"model": "small", "input": "x"}).encode()
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: {keeps}\r\n"
            reader, writer = await opened(under, head.encode() + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
            await under.row()
            await asyncio.sleep(0.5)
            assert len(await ended(reader)) < size
            writer.close()

    run(test())


def test_a_caller_that_reads_slowly_is_not_cut_off() -> None:
    async def test() -> None:
        async with BackendUnderTest(pouring(1024)).serving() as backend, gateway(backend.url, stalled_s=0.25) as under:
            connection = await under.connection(CHAT, chat(stream=True), room=4096)
            loop = asyncio.get_running_loop()
            ends = loop.time() + 0.7
            while loop.time() < ends:
                assert await loop.sock_recv(connection, 4096)
                await asyncio.sleep(0.005)
            assert not under.log.rows, "it still goes on"
            reset(connection)
            await until(lambda: backend.left == 1)

    run(test())


def test_an_error_in_the_middle_of_an_answer_cuts_it_off(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        raise ZeroDivisionError

    async def test() -> None:
        app = web.Application(middlewares=[worded])
        app.router.add_get("/v1/models", broken)
        runner = Runner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(LIVE)
        said = await ended(reader)
        assert said.startswith(b"HTTP/1.1 200 OK") and said.count(b"HTTP/1.1 ") == 1
        writer.close()
        await runner.cleanup()

    run(test())
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_what_is_kept_of_a_connection_goes_with_it() -> None:
    async def test() -> None:
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url, connections=4) as under:
            for _ in range(32):
                assert (await under.post(CHAT, chat(stream=True)))[0] == 200
                reader, writer = await opened(under, b"\x16\x03\x01")
                assert (await ended(reader)).startswith(b"HTTP/1.")
                writer.close()

    run(test())

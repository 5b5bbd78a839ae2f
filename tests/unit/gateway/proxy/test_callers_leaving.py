"""Callers that leave, read slowly, or stay: what is held for them, and what is given back."""

import asyncio
import gc
import tracemalloc

import pytest
from aiohttp import web

from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, Places, gateway, reset, run, until
from tests.unit.gateway.proxy.scripted import DONE, HELLO, chat, chunk, endless, streaming


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_a_client_that_leaves_frees_its_slot(stream: bool, started: bool) -> None:
    """In the middle of the answer, and before its first byte; streamed or not."""

    async def test() -> None:
        events = HELLO[:2] if started else []
        async with BackendUnderTest(endless(*events, started=started)).serving() as backend, gateway(backend.url) as under:
            connection = await under.connection("/v1/chat/completions", chat(stream=stream))
            await until(lambda: backend.open == 1)
            reset(connection)
            await until(lambda: backend.left == 1)
            assert (await under.row()).status_code == 499
            assert not under.places.running and under.places.settled[0][2] is False

    run(test())


def test_a_client_that_leaves_the_queue_is_out_of_it() -> None:
    async def test() -> None:
        places = Places(slots=1)
        async with BackendUnderTest(endless()).serving() as backend, gateway(backend.url, places=places, heartbeat_s=0.02) as under:
            first = await under.connection("/v1/chat/completions", chat(stream=True))
            await until(lambda: backend.open == 1)
            for stream in (True, False):
                second = await under.connection("/v1/chat/completions", chat(stream=stream))
                await until(lambda: len(places.asked) > 1)
                reset(second)
                row = await under.row()
                assert row.status_code == 499 and row.backend == ""
                under.log.rows.clear()
            reset(first)
            await until(lambda: not places.running)
            assert len(backend.asked) == 1

    run(test())


def test_a_slow_reader_stops_the_back_end_and_fills_no_memory() -> None:
    written = 0
    piece = chunk({"content": "x" * 65536})

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(1024):
            await response.write(piece)
            written += len(piece)
        return response

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url) as under:
            connection = await under.connection("/v1/chat/completions", chat(stream=True), room=4096)
            before = -1
            while written != before:  # until nothing moves any more
                before = written
                await asyncio.sleep(0.1)
            assert 0 < written < 32 * 1024 * 1024, "64 MiB went on although nobody read"
            reset(connection)
            await until(lambda: backend.left == 1)

    run(test())


def test_a_caller_that_stops_and_reads_on_gets_everything() -> None:
    events = [*(chunk({"content": "x" * 65536}) for _ in range(64)), chunk({}, finish_reason="stop"), DONE]

    async def test() -> None:
        async with (
            BackendUnderTest(streaming(*events)).serving() as backend,
            gateway(backend.url) as under,
            under.session.post(
                under.url + "/v1/chat/completions", json=chat(stream=True), headers={"Authorization": f"Bearer {KEY}"}
            ) as response,
        ):
            await asyncio.sleep(0.05)
            assert await response.content.read() == b"".join(events)

    run(test())


def test_a_stream_that_runs_does_not_keep_what_it_was_asked_with() -> None:
    size = 16 * 1024 * 1024

    async def test() -> None:
        async with BackendUnderTest(endless(*HELLO[:2])).serving() as backend, gateway(backend.url) as under:
            tracemalloc.start()
            try:
                connection = await under.connection(
                    "/v1/chat/completions", chat(stream=True, messages=[{"role": "user", "content": "x" * size}])
                )
                await until(lambda: backend.open == 1)
                assert len(backend.asked[0].raw) > size
                backend.asked.clear()
                await asyncio.get_running_loop().sock_recv(connection, 65536)
                await asyncio.sleep(0.01)
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] < 1.5 * size, "the back end of this test keeps it once"
            finally:
                tracemalloc.stop()
            reset(connection)

    run(test())

"""Whole answers that are over soon are asked for as they are; all others as a stream, which llama-server gives up when its reader goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from paddock_gateway.contract import Used
from paddock_gateway.proxy.pace import Pace, Size
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, gateway, reset, run, until
from tests.unit.gateway.proxy.scripted import DONE, HELLO, USAGE, chat, chunk, json_answer, streaming

STREAM = [*HELLO[:4], chunk(usage=USAGE), DONE]
WHOLE = {
    "choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hello"}}],
    "created": 1,
    "model": "small",
    "object": "chat.completion",
    "usage": USAGE,
    "id": "chatcmpl-1",
}


async def as_asked(request: web.Request, raw: bytes) -> web.StreamResponse:
    answer = streaming(*STREAM) if json.loads(raw).get("stream") else json_answer(WHOLE)
    return await answer(request, raw)


def went_up(*asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One after the other."""

    async def test() -> list[dict[str, Any]]:
        async with BackendUnderTest(as_asked).serving() as backend, gateway(backend.url) as under:
            under.places.slot = None
            for body in asked:
                status, said, _ = await under.post("/v1/chat/completions", body)
                assert status == 200 and json.loads(said)["choices"] == WHOLE["choices"]
                assert (under.places.settled[-1][1], under.places.settled[-1][2]) == (Used(5, 2, 2), True)
            return [each.body for each in backend.asked]

    return run(test())


def test_a_short_request_goes_up_as_it_came_once_the_back_end_is_known_to_be_fast() -> None:
    short = chat(max_tokens=8)
    first, second = went_up(short, short)
    assert first["stream"] is True
    assert second == short


@pytest.mark.parametrize(
    "more",
    [{}, {"max_tokens": -1}, {"max_tokens": 8, "n_predict": -1}, {"max_tokens": 8, "n": 2}, {"max_tokens": 10**6}, {"max_tokens": 8.5}],
)
def test_a_request_that_may_take_long_goes_up_as_a_stream(more: dict[str, Any]) -> None:
    assert [up.get("stream") for up in went_up(chat(max_tokens=8), chat(**more))] == [True, True]


def test_a_picture_takes_a_time_that_its_address_does_not_tell() -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://192.0.2.1/a.png"}}]}
    assert [up.get("stream") for up in went_up(chat(max_tokens=8), chat(max_tokens=8, messages=[picture]))] == [True, True]


def test_a_client_that_leaves_a_short_request_ends_its_connection() -> None:
    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        if not json.loads(raw).get("stream"):
            await asyncio.sleep(3600)
        return await streaming(*STREAM)(request, raw)

    async def test() -> None:
        async with BackendUnderTest(answer).serving() as backend, gateway(backend.url) as under:
            await under.post("/v1/chat/completions", chat(max_tokens=8))
            under.log.rows.clear()
            connection = await under.connection("/v1/chat/completions", chat(max_tokens=8))
            await until(lambda: backend.open == 1)
            reset(connection)
            await until(lambda: backend.left == 1)
            assert (await under.row()).status_code == 499
            assert not under.places.running and under.places.settled[-1][2] is False

    run(test())


@pytest.mark.parametrize(
    ("seconds", "used", "size", "soon"),
    [
        (0.1, Used(10, 0, 10), Size(20, 50), True),  # 10 ms a token, of the answer and, as it may be, of the prompt
        (0.1, Used(10, 0, 10), Size(20, 90), False),
        (0.1, Used(10, 0, 10), Size(90, 20), False),
        (0.1, Used(1000, 0, 10), Size(900, 20), True),  # a long prompt was read in no more than 0.1 ms a token
        (0.1, Used(1000, 990, 10), Size(900, 20), False),  # a cache had most of it, which tells nothing
        (9.0, Used(10, 0, 10), Size(20, 8), False),
        (0.1, Used(10, 0, 0), Size(1, 1), False),
        (0.1, Used(10, 0, 10), Size(1, None), False),
    ],
)
def test_what_is_over_within_a_second_is_worked_out_from_the_latest_answers(seconds: float, used: Used, size: Size, soon: bool) -> None:
    pace = Pace()
    assert not pace.soon(Size(1, 1))
    pace.took(seconds, used)
    assert pace.soon(size) is soon


def test_a_back_end_that_became_slow_is_asked_for_streams_again() -> None:
    pace = Pace()
    pace.took(0.1, Used(10, 0, 10))
    assert pace.soon(Size(10, 10))
    pace.took(5.0, Used(10, 0, 10))
    assert not pace.soon(Size(10, 10))

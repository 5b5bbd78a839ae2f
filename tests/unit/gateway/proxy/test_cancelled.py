"""A request that is cancelled wherever it waits: its slot and its limits are free again, and it has one row."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from paddock_gateway.app import application
from paddock_gateway.contract import Parts, Users
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.proxy.handler import Handler
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.server import Runner
from paddock_gateway.settings import Backend, Configuration, Health, Limits, Model, Target
from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, Keyring, Rows, run
from tests.unit.gateway.proxy.scripted import HELLO, chat, streaming

LIMITS = Limits(requests=9, tokens=10**6, parallel=9)
Generate = Callable[..., Awaitable[web.StreamResponse]]


class Cancelled:
    """Awaits what it is given, and cancels its task at the `at`-th wait. `reached`: there were as many."""

    def __init__(self, inner: Any, at: int, reached: list[int]) -> None:
        self._inner, self._at, self._reached = inner, at, reached

    def __await__(self) -> Generator[Any, Any, Any]:
        waits, inner = 0, self._inner.__await__()
        given: Any = None
        failed: BaseException | None = None
        while True:
            try:
                waited = inner.send(given) if failed is None else inner.throw(failed)
            except StopIteration as end:
                return end.value
            waits += 1
            if waits == self._at:
                self._reached.append(waits)
                task = asyncio.current_task()
                assert task
                task.cancel()
            given = failed = None
            try:
                given = yield waited
            except BaseException as error:
                failed = error


async def cancelled(at: int, stream: bool, first_fails: bool) -> bool:
    """Whether the request waited so often."""

    async def failing(request: web.Request, raw: bytes) -> web.StreamResponse:
        return web.Response(status=502)

    first = BackendUnderTest(failing if first_fails else streaming(*HELLO))
    async with first.serving(), BackendUnderTest(streaming(*HELLO)).serving() as second:
        said = Configuration(
            ("127.0.0.1:0",),
            database="sqlite:none",
            pepper_file="none",
            state="none",
            backends={"one": Backend(first.url), "two": Backend(second.url)},
            models={"small": Model((Target("one", "small"), Target("two", "small")), limits=LIMITS)},
            health=Health(every_s=600, failures=9),
        )
        dispatcher, rows = FairDispatcher(said), Rows()
        upstream = HttpUpstream(said, dispatcher, rows, rows)
        app = application(Parts(said, Keyring(), cast(Users, None), dispatcher, rows, rows, upstream))
        runner = Runner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reached: list[int] = []
        with pytest.MonkeyPatch.context() as patched:
            generate: Generate = inspect.getattr_static(Handler, "_generate")

            async def broken(*arguments: Any) -> web.StreamResponse:
                answer: web.StreamResponse = await Cancelled(generate(*arguments), at, reached)
                return answer

            patched.setattr(Handler, "_generate", broken)
            url = "http://{}:{}/v1/chat/completions".format(*runner.addresses[0][:2])
            try:
                async with (
                    aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
                    session.post(url, json=chat(stream=stream)) as response,
                ):
                    await response.read()
            except aiohttp.ClientError:
                assert reached
        await runner.cleanup()
        figures = dispatcher.figures()
        assert (figures.waiting, figures.running, dispatcher._admission.limiter.in_use()) == (0, 0, 0)
        assert [row.status_code for row in rows.rows] == [499 if reached else 200]
        return bool(reached)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("first_fails", [True, False])
def test_a_request_that_is_cancelled_at_any_wait_gives_all_back(stream: bool, first_fails: bool) -> None:
    at = 1
    while run(cancelled(at, stream, first_fails)):
        at += 1
    assert at > 3

"""A server in between, which passes everything on as it is and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

_OF_THE_CONNECTION = ("Transfer-Encoding", "Connection", "Keep-Alive")


@dataclass(frozen=True)
class Seen:
    """A request, and the answer as far as it went by."""

    method: str
    path: str
    headers: CIMultiDict[str]
    raw: bytes
    answer: bytearray = field(default_factory=bytearray)

    @property
    def body(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.raw)
        return said


@dataclass
class Recorder:
    """Before the server at `behind`."""

    behind: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    def posted(self, path: str) -> list[Seen]:
        return [each for each in self.seen if each.method == "POST" and each.path == path]

    async def pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.path, CIMultiDict(request.headers), await request.content.read())
        self.seen.append(seen)
        headers = {**request.headers, "Connection": "close"}
        async with (
            aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding")) as session,
            session.request(request.method, self.behind + request.path_qs, data=seen.raw or None, headers=headers) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                seen.answer.extend(piece)
                await response.write(piece)
            await response.write_eof()
            return response


@contextmanager
def recording(behind: str) -> Iterator[Recorder]:
    """Runs in a thread of its own: who asks may be this one, or another program."""
    recorder = Recorder(behind)
    loop = asyncio.new_event_loop()

    async def begin() -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(recorder.pass_on, handler_cancellation=True, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        recorder.url = "http://{}:{}".format(*runner.addresses[0][:2])
        return runner

    runner = loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

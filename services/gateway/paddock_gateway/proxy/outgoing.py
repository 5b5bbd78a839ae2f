"""What goes back to the caller: a stream with a heartbeat, an error inside it, the model's name as the caller knows it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress

import orjson
from aiohttp import web

from paddock_gateway.errors import Failure, anthropic_error, openai_error
from paddock_gateway.proxy.routes import Shape

STREAM_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

COMMENT = b":\n\n"
"""As llama-server itself writes it."""

_MODEL = re.compile(rb'"model":("(?:[^"\\]|\\.){0,512}")')


def refusal(failure: Failure, shape: Shape) -> web.Response:
    said = anthropic_error(failure) if shape == "anthropic" else openai_error(failure)
    return web.Response(status=failure.status, body=orjson.dumps(said), content_type="application/json", headers=failure.headers)


def error_event(failure: Failure, shape: Shape) -> bytes:
    if shape == "anthropic":
        return b"event: error\ndata: " + orjson.dumps(anthropic_error(failure)) + b"\n\n"
    return b"data: " + orjson.dumps(openai_error(failure)) + b"\n\n"


class Renamed:
    """Puts the name that the caller used where the back end says another, as it does for an alias."""

    def __init__(self, asked: str, sent: str) -> None:
        self._wanted = b'"model":' + orjson.dumps(asked)
        self._found: bytes | None = None
        self._needed = asked != sent

    def __call__(self, said: bytes) -> bytes:
        if not self._needed:
            return said
        if self._found is None:
            found = _MODEL.search(said)
            if found is None:
                return said
            self._found = found[0]
        # inside text a quote has a backslash before it: only a member can look like this
        return said.replace(self._found, self._wanted)


class _Response(web.StreamResponse):
    _send_headers_immediately = False
    """They go with the first event."""


class Stream:
    """Starts with the first write, or with the first heartbeat where that comes before."""

    def __init__(self, request: web.Request, heartbeat_s: float) -> None:
        self._request, self._every = request, heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None
        self._last = 0.0
        self._writing = False
        self.response: web.StreamResponse | None = None
        self.bytes = 0

    async def start(self, headers: Mapping[str, str]) -> None:
        self.response = _Response(headers={**STREAM_HEADERS, **headers})
        await self.response.prepare(self._request)
        self._last = self._loop.time()
        self._timer = self._loop.call_later(self._every, self._tick)

    async def write(self, data: bytes) -> None:
        """Waits while the caller reads slower than the back end writes."""
        assert self.response is not None
        self._writing = True
        try:
            await self.response.write(data)
        finally:
            self._writing = False
        self.bytes += len(data)
        self._last = self._loop.time()

    def _tick(self) -> None:
        quiet = self._loop.time() - self._last
        if quiet >= self._every and not self._writing:
            self._beat = self._loop.create_task(self._comment())
            quiet = 0.0
        self._timer = self._loop.call_later(max(0.001, self._every - quiet), self._tick)

    async def _comment(self) -> None:
        with suppress(ConnectionError):
            await self.write(COMMENT)

    async def end(self, last: bytes = b"") -> None:
        assert self.response is not None
        self.stop()
        await self.response.write_eof(last)
        self.bytes += len(last)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

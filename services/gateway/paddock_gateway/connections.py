"""Connections of callers, and the bounds that keep one from lasting for ever or being one too many.

aiohttp closes a connection that is idle, and the routes bound how long a body may take. Here is the rest: a head that does not come, a
caller who takes nothing of an answer, connections in all, and words in JSON for HTTP that cannot be read.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from dataclasses import dataclass
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from paddock_gateway.app import SERVER
from paddock_gateway.errors import Failure, openai_error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """See settings.Configuration."""

    head_s: float = 20.0
    stalled_s: float = 120.0
    connections: int = 2048


class Runner(web.AppRunner):
    def __init__(self, app: web.Application, bounds: Bounds = Bounds(), **more: Any) -> None:
        super().__init__(app, **more)
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            self._bounds,
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )

    def open(self) -> bool:
        """Whether somebody is being answered, or says what to. Connections that wait for a request are closed."""
        connections = [cast(_Connection, each) for each in self.server.connections] if self.server else []
        for each in connections:
            if each.silent:
                each.force_close()
        return not all(each.silent for each in connections)


class _Server(web.Server):
    def __init__(self, bounds: Bounds, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.bounds = bounds

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """One too many takes the place of the connection that has waited longest for a request. Where none waits, it is refused."""
        if len(self._connections) >= self.bounds.connections:
            idle = next((each for each in self._connections if cast(_Connection, each).idle), None)
            if idle is None:
                cast(_Connection, handler).refuse(Failure(503, "The gateway has too many connections. Try again.", "connections"))
            else:
                del self._connections[idle]
                idle.force_close()
        super().connection_made(handler, transport)


class _Connection(RequestHandler):
    def __init__(self, server: _Server, **more: Any) -> None:
        super().__init__(server, **more)
        self._bounds = server.bounds
        self._begun = False
        self._head: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether it waits for a request: its first, or the next."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    @property
    def silent(self) -> bool:
        """Whether nothing has come of the request that it waits for."""
        return self.idle and (self._request_count > 0 or not self._begun)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # aiohttp forgets its own when it closes it
        self._head = self._loop.call_later(self._bounds.head_s, self._no_head)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._begun = True
        super().data_received(data)
        if self._head and self._request_count:
            self._head.cancel()
            self._head = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head, self._stalled):
            if timer:
                timer.cancel()

    def _no_head(self) -> None:
        if self._request_count:
            return
        if self._begun:
            self.refuse(Failure(408, f"The request's head did not arrive within {self._bounds.head_s:g} s. Send it again.", "too_slow"))
        else:
            self.force_close()

    def refuse(self, failure: Failure) -> None:
        """Says what is wrong before there is a request, and closes."""
        raw = orjson.dumps(openai_error(failure))
        head = f"HTTP/1.1 {failure.status} Refused\r\nServer: {SERVER}\r\nContent-Type: application/json\r\n"
        if self.transport:
            self.transport.write(f"{head}Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode() + raw)
        self.force_close()

    def pause_writing(self) -> None:
        """The caller reads slower than is written. Nothing more is written until it has caught up: what is left only becomes less."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            self._watch()  # a transport that is closed still keeps what is left for a caller who may never take it

    def _watch(self) -> None:
        """Ends the connection if the caller takes nothing for `stalled_s`."""
        transport = self._transport
        if self._stalled:
            self._stalled.cancel()
        if left := _untaken(transport):
            self._stalled = self._loop.call_later(self._bounds.stalled_s, self._look, transport, left)

    def _look(self, transport: asyncio.Transport, before: int) -> None:
        if _untaken(transport) < before:
            self._watch()
        else:
            transport.abort()

    def log_exception(self, *args: Any, **more: Any) -> None:
        """As aiohttp calls it. A body that cannot be unpacked is the caller's fault, who has been told."""
        if not isinstance(more.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **more)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """As aiohttp calls it: HTTP that cannot be read, or an error that no middleware has seen."""
        if isinstance(exc, ConnectionError):
            raise exc
        if isinstance(exc, HttpProcessingError) or 400 <= status < 500:
            why = " ".join(str(message or "").split())[:200]
            failure = Failure(status, f"The request is no HTTP that can be read: {why or 'its first line is wrong'}", "bad_http")
        else:
            log.error("request", exc_info=exc)
            failure = Failure(502, "There was an internal error, which is in the gateway's journal.", "internal")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        answer = web.Response(status=failure.status, body=orjson.dumps(openai_error(failure)), content_type="application/json")
        answer.headers["Server"] = SERVER
        answer.force_close()
        return answer


def _untaken(transport: asyncio.Transport) -> int:
    """Bytes that the caller has not acknowledged, those in the kernel included (tcp(7), SIOCOUTQ): it takes more from the transport only
    when a third of its own buffer, a megabyte, is free. 0 where the transport has none left."""
    left = transport.get_write_buffer_size()
    if not left:
        return 0
    try:
        queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return left
    return left + int(struct.unpack("i", queued)[0])

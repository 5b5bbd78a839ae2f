"""HTTP/1.1 with a back end, as much of it as llama-server needs: aiohttp's parser on connections of the gateway's own.

aiohttp's ClientSession works out anew for each request what is the same here for all of them (the address, headers, cookies, proxies,
redirects), which took a quarter of a request's time. And through it uvloop looks up each address in a thread, numbers too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from aiohappyeyeballs import start_connection
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import ceil_timeout
from aiohttp.http_exceptions import HttpProcessingError

KEEPALIVE_S = 3.0
"""llama-server closes an idle connection after 5 s."""

RESOLVED_S = 10.0
"""The addresses of a name are looked up anew after so long."""

APART = 64 * 1024
"""Bytes of a body that is not copied behind its head."""

SECOND_S = 0.25
"""Where a name has several addresses, the next is tried so long after the one before (RFC 8305)."""


@dataclass(frozen=True)
class Patience:
    """Seconds. A router may load a model before it answers; llama-server sends a comment every 30 s in a stream, even in a long prompt."""

    connect_s: float = 5.0
    answer_s: float = 600.0
    """From the request to the first byte of the answer, and from one to the next."""
    look_s: float = 5.0


class Unreachable(OSError):
    """No connection came about."""


class Answer:
    """`content` gives the body. `close` ends what the back end still does for it; `release`, after the body, keeps the connection."""

    __slots__ = ("_client", "_connection", "content", "content_type", "status")

    def __init__(self, client: Client, connection: _Connection, message: Any, content: aiohttp.StreamReader) -> None:
        self._client, self._connection, self.content = client, connection, content
        self.status: int = message.code
        self.content_type: str = message.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def close(self) -> None:
        self._connection.close()

    def release(self) -> None:
        self._client.keep(self._connection)


class _Connection(ResponseHandler):
    _heard = 0.0
    """The loop's time when the last piece came, or the request went."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # aiohttp sets TCP_NODELAY, which uvloop and asyncio do

    def _reschedule_timeout(self) -> None:
        """aiohttp's own makes a timer for each piece that comes. Here one stands, and looks when it is due."""
        self._heard = self._loop.time()
        if self._read_timeout_handle is None and self._read_timeout:
            self._read_timeout_handle = self._loop.call_later(self._read_timeout, self._on_read_timeout)

    def _on_read_timeout(self) -> None:
        left = self._heard + (self._read_timeout or 0.0) - self._loop.time()
        if left <= 0:
            super()._on_read_timeout()
        else:
            self._read_timeout_handle = self._loop.call_later(left, self._on_read_timeout)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """aiohttp 3.14.5 closes a connection whose chunks it cannot read and forgets to tell who reads them: they would wait for ever."""
        payload = self._payload
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError) and payload is not None and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the answer cannot be read"))


class Client:
    """Raises ValueError where the address is none. `headers` go with every request."""

    def __init__(self, url: str, headers: Mapping[str, str], patience: Patience) -> None:
        self._headers, self._patience = headers, patience
        self._path = url.removeprefix("unix:") if url.startswith("unix:") else ""
        parts = urlsplit("http://localhost" if self._path else url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._name, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._host = parts.netloc.rpartition("@")[2]
        self._numbers = ""
        with suppress(ValueError):
            self._numbers = str(ip_address(self._name))
        self._found: list[Any] = []
        self._found_until = float("-inf")
        self._idle: list[tuple[_Connection, float]] = []
        """With the loop's time at which each is closed, the earliest first."""
        self._closing: asyncio.TimerHandle | None = None

    async def ask(self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes = b"", *, keep: bool = True) -> Answer:
        """With the answer's head. `keep`: on a connection that is kept, and that may be kept again.

        Raises Unreachable, asyncio.TimeoutError, and aiohttp.ClientError where the answer breaks off or is no HTTP. A connection that was
        kept may have been closed as the request left, which is then sent once more.
        """
        head = self._head(method, path, headers, len(body), keep)
        while keep and (kept := self._kept()) is not None:
            with suppress(aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await self._answer(kept, head, body)
        return await self._answer(await self._connected(), head, body)

    async def page(self, path: str, largest: int) -> bytes:
        """The first `largest` bytes, or some more. Raises what `ask` does, and ValueError for another status than 200."""
        async with ceil_timeout(self._patience.look_s):
            answer = await self.ask("GET", path)
            try:
                if answer.status != 200:
                    raise ValueError(f"status {answer.status} of {path}")
                raw = bytearray()
                while len(raw) < largest and (piece := await answer.content.readany()):
                    raw += piece
                return bytes(raw)
            finally:
                answer.release()

    def keep(self, connection: _Connection) -> None:
        if connection.should_close or not connection.is_connected():
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time() + KEEPALIVE_S))
        if self._closing is None:
            self._closing = loop.call_later(KEEPALIVE_S, self._close_idle)

    def _close_idle(self) -> None:
        loop, self._closing = asyncio.get_running_loop(), None
        while self._idle and (self._idle[0][1] <= loop.time() or not self._idle[0][0].is_connected()):
            self._idle.pop(0)[0].close()
        if self._idle:
            self._closing = loop.call_at(self._idle[0][1], self._close_idle)

    def close(self) -> None:
        while (kept := self._kept()) is not None:
            kept.close()
        if self._closing is not None:
            self._closing.cancel()

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_connected() and not connection.should_close:
                return connection
        return None

    def _head(self, method: str, path: str, headers: Mapping[str, str], length: int, keep: bool) -> bytes:
        said = {"Host": self._host, **headers, **self._headers, "Connection": "keep-alive" if keep else "close"}
        if method == "POST":
            said["Content-Length"] = str(length)
        text = "\r\n".join([f"{method} {path} HTTP/1.1", *[f"{name}: {value}" for name, value in said.items()], "", ""])
        if text.count("\n") != len(said) + 2 or text.count("\r") != len(said) + 2 or "\0" in text:
            raise ValueError("a header with a line end")
        return text.encode("utf-8", "surrogateescape")

    async def _answer(self, connection: _Connection, head: bytes, body: bytes) -> Answer:
        try:
            transport = connection.transport
            if transport is None:
                raise aiohttp.ServerDisconnectedError
            connection.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=self._patience.answer_s)
            if len(body) > APART:
                transport.write(head)
                transport.write(body)
            else:
                transport.write(head + body)
            connection.start_timeout()
            while True:
                message, content = await connection.read()
                if message.code >= 200 or message.code == 101:
                    return Answer(self, connection, message, content)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError("the answer cannot be read") from error
        except BaseException:
            connection.close()
            raise

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(loop)
        try:
            async with ceil_timeout(self._patience.connect_s):
                if self._path:
                    await loop.create_unix_connection(lambda: connection, self._path)
                elif self._numbers:
                    await loop.create_connection(lambda: connection, self._numbers, self._port, **self._secured())
                else:
                    found = await start_connection(await self._resolved(), happy_eyeballs_delay=SECOND_S)
                    await loop.create_connection(lambda: connection, sock=found, **self._secured())
        except asyncio.TimeoutError:
            raise
        except OSError as error:
            raise Unreachable(str(error)) from None
        return connection

    def _secured(self) -> dict[str, Any]:
        return {"ssl": self._tls, "server_hostname": self._name} if self._tls else {}

    async def _resolved(self) -> list[Any]:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._found_until:
            self._found = list(await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM))
            self._found_until = loop.time() + RESOLVED_S
        return self._found

"""One request's way up: its place, the back end that takes it, another where that fails before it has answered, and the settling of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import aiohttp
import orjson

from paddock_gateway.contract import Ask, Dispatcher, Observer, Place, Used
from paddock_gateway.errors import Failure
from paddock_gateway.proxy import events
from paddock_gateway.proxy.backends import Pool
from paddock_gateway.proxy.client import Answer, Unreachable
from paddock_gateway.proxy.pace import Size
from paddock_gateway.proxy.routes import Kind

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of an unstreamed answer."""

LARGEST_ERROR = 1024 * 1024


class Sent(Protocol):
    """A body, made for the place that the request gets."""

    def made_for(self, place: Place, *, stream: bool) -> bytes: ...

    def release(self) -> None:
        """It is not needed any more: a thousand streams that run do not keep what they were asked with."""


@dataclass(slots=True)
class Wanted:
    """A request as it goes up."""

    ask: Ask
    path: str
    kind: Kind
    stream: bool
    body: Sent
    headers: Mapping[str, str]
    progress: bool = True
    """Whether events that count the prompt's progress go on to the caller."""
    size: Size | None = None
    """Of a request whose answer is put together from a stream, unless it is over soon: then it goes up unstreamed."""


class Unusable(Exception):
    """What a back end did in place of an answer. `blame`: it counts as a failure of the back end, not of this request alone."""

    def __init__(self, words: str, status: int = 502, *, blame: bool = True, retry_after_s: float | None = None) -> None:
        super().__init__(words)
        self.words, self.status, self.blame, self.retry_after_s = words, status, blame, retry_after_s


class Exchange:
    """`open` first, then `events` or `whole`; `close` in any case, once or more."""

    def __init__(self, wanted: Wanted, pool: Pool, dispatcher: Dispatcher, observer: Observer, retries: int) -> None:
        self._wanted, self._pool, self._dispatcher, self._observer, self._retries = wanted, pool, dispatcher, observer, retries
        self._response: Answer | None = None
        self._ready = b""
        self._splitter: events.Splitter
        self._seen: events.Unprogressed
        self._tally = events.Tally(wanted.kind)
        self._settled = False
        self._stream = wanted.stream
        """Whether a stream was asked for."""
        self._sent = 0.0
        self.place: Place | None = None
        self.last: Place | None = None
        """The place that it has or had, for the row."""
        self.status = 0
        self.whole: bytes | None = None
        """The answer where it is no stream."""
        self.used: Used | None = None
        self.error: bytes | None = None
        """The event that says what went wrong, in the last batch."""
        self.complete = False
        """Whether the answer has come to its end."""

    async def open(self) -> None:
        """Until the first event, or the whole of an unstreamed answer, has come. Raises Failure."""
        wanted = self._wanted
        ask = wanted.ask
        for attempt in range(self._retries + 1):
            self.place = self.last = place = await self._dispatcher.place(ask)
            try:
                await self._send(place)
                self._pool.answered(place.backend)
                wanted.body.release()
                return
            except Unusable as error:
                self._drop()
                if error.blame:
                    self._pool.failed(place.backend, error.words)
                ask = replace(ask, exclude=ask.exclude | {place.backend})
                if attempt == self._retries or all(backend in ask.exclude for backend, _ in ask.targets):
                    self.used = Used()
                    self.close()
                    message = f"The back end of {ask.model} {error.words}."
                    raise Failure(error.status, message, "backend_failed", retry_after_s=error.retry_after_s) from None
                self.place = None
                self._dispatcher.again(place)
                self._observer.retried(place.backend)

    async def _send(self, place: Place) -> None:
        wanted = self._wanted
        backend = self._pool[place.backend]
        self._stream = wanted.stream and not (wanted.size and backend.paces[place.model].soon(wanted.size))
        body = wanted.body.made_for(place, stream=self._stream)
        self._splitter, self._seen = events.Splitter(events.LARGEST_EVENT + len(body)), events.Unprogressed(wanted.kind)
        try:
            # llama-server closes a connection after a stream, while it announces to keep it
            self._sent = time.monotonic()
            response = await backend.client.ask("POST", wanted.path, wanted.headers, body, keep=not self._stream)
            self._response, self.status = response, response.status
            if response.status == 200 and response.content_type == "text/event-stream":
                place.begun = True  # llama-server sends the headers when the slot has let go of what it held and is not this prompt
                await self._begin(response)
            else:
                await self._read(response)
        except (asyncio.TimeoutError, aiohttp.ServerTimeoutError):
            raise Unusable("did not answer in time", 504) from None
        except Unreachable:
            raise Unusable("cannot be reached") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Unusable("broke off its answer, or does not speak HTTP") from None

    async def _begin(self, response: Answer) -> None:
        """Until an event that is no comment."""
        while True:
            chunk = await response.content.readany()
            if not chunk:
                raise Unusable("ended its answer before it began")
            try:
                found = self._heard(chunk)
            except events.TooLarge:
                raise Unusable("sent an event without an end") from None
            while found.startswith(b":"):
                found = found[found.index(b"\n\n") + 2 :]
            if found:
                self._ready = found
                if not events.is_event(found):
                    raise Unusable("sent something else than events")
                return

    def _heard(self, chunk: bytes) -> bytes:
        found = self._splitter.feed(chunk)
        return found if self._wanted.progress else self._seen(found)

    async def _read(self, response: Answer) -> None:
        raw = await _bounded(response, LARGEST_ANSWER if response.status == 200 else LARGEST_ERROR)
        if response.status == 200:
            if response.content_type != "application/json" or raw[:1] not in (b"{", b"["):
                raise Unusable("answered something else than JSON")
            self.whole, self.used, self.complete = raw, events.used_in(raw), True
            return
        message = _message(raw)
        if response.status == 503:
            raise Unusable("is loading its model" if message else "is not available", 503, blame=not message, retry_after_s=5)
        if response.status in (401, 403):
            raise Unusable("refuses the gateway's key", blame=False)
        if message is None or response.status < 400 or response.status == 404:
            raise Unusable(f"answered with status {response.status}", blame=response.status >= 500)
        if response.status == 500:
            raise Unusable(f"could not answer: {message.rstrip('.')}", blame=False)
        self.whole, self.used = raw, Used()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Whole events, as many as came together. Raises Failure where the back end breaks off."""
        assert self._response is not None and self.place is not None
        content, kind = self._response.content, self._wanted.kind
        batch, self._ready = self._ready, b""
        while True:
            for event in events.marked(kind, batch):
                self._tally.hear(event)
                if events.ends(kind, event):
                    self.complete = True
                elif events.is_error(event):
                    self.error = event
                    yield batch
                    return
            if batch:
                yield batch
            if self.complete and kind != "native":
                return
            ended = False
            try:
                chunk = await content.readany()
                ended = not chunk
                batch = self._heard(chunk)
            except (asyncio.TimeoutError, aiohttp.ServerTimeoutError):
                raise Failure(504, "The back end stopped in the middle of its answer.", "backend_silent") from None
            except events.TooLarge:
                raise Failure(502, "The back end sent an event without an end.", "backend_failed") from None
            except (aiohttp.ClientError, OSError):
                chunk = b""
            if not chunk:
                # with `response_fields` no event says that it is the last: then a body that is whole is
                self.complete = self.complete or (ended and kind == "native")
                if self.complete:
                    return
                self._pool.failed(self.place.backend, "broke off a stream")
                raise Failure(502, "The back end broke off its answer. Send the request again.", "backend_failed")

    def close(self) -> None:
        """Gives the place back, and the connection, which ends what the back end still does for it."""
        self._drop()
        if self.place is not None and not self._settled:
            self._settled = True
            self.used = self.used or self._tally.used()
            if self.complete and self.used and self._wanted.size:
                self._pool[self.place.backend].paces[self.place.model].took(time.monotonic() - self._sent, self.used)
            self._dispatcher.done(self.place, self.used, whole=self.complete)

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            if self.whole is not None and not self._stream:
                response.release()
            else:
                response.close()
        self._ready = b""


async def _bounded(response: Answer, largest: int) -> bytes:
    pieces, size = [], 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > largest:
            raise Unusable("sent an answer that is too large")
        pieces.append(piece)
    return b"".join(pieces)


def _message(raw: bytes) -> str | None:
    """What llama-server says in `{"error": {"message"}}`; None where it is something else."""
    try:
        said: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message[:2000] if isinstance(message, str) else None


def failure_of(event: bytes) -> Failure:
    """An error event of the back end."""
    said = events.parsed(event) or {}
    error: Any = said.get("error", said)
    error = error if isinstance(error, dict) else {}
    status = error.get("code")
    message = error.get("message")
    known = isinstance(status, int) and 400 <= status < 600 and status != 500
    return Failure(status if known else 502, str(message)[:2000] if message else "The back end could not answer.", "backend_failed")

"""A caller's request, from its key to its row."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from paddock_gateway.contract import Account, Keys, Parts, Row
from paddock_gateway.convert.converter import Stream as Converted
from paddock_gateway.errors import Failure
from paddock_gateway.proxy import events
from paddock_gateway.proxy.assemble import BESIDE_TEXT, LARGEST, Broken, assembly
from paddock_gateway.proxy.body import Body, read
from paddock_gateway.proxy.credentials import key_of
from paddock_gateway.proxy.exchange import Exchange, failure_of
from paddock_gateway.proxy.form import Form
from paddock_gateway.proxy.outgoing import COMMENT, Renamed, Stream, error_event, refusal
from paddock_gateway.proxy.prepared import Prepared, prepare, prepare_form
from paddock_gateway.proxy.routes import MODEL_LISTS, ROUTES, Route, shape_of
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.request_id import REQUEST_ID

log = logging.getLogger(__name__)

_NOT_PASSED = frozenset(
    {"authorization", "x-api-key", "cookie", "host", "content-length", "content-type", "content-encoding", "accept-encoding", "expect"}
    | {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"x-conversation-id", "x-request-id"}  # with the former anyone who names it reads the stream at /v1/stream
)


SMALL = 512 * 1024
"""Bytes of a body that is read and digested in a few milliseconds. What is larger would hold up every stream, for 0.2 s at 32 MiB."""


def add_routes(app: web.Application, parts: Parts, upstream: HttpUpstream) -> None:
    handler = Handler(parts, upstream)
    for path in ROUTES:
        app.router.add_post(path, handler.answer)
    for path in MODEL_LISTS:
        app.router.add_get(path, handler.list_models, allow_head=False)
    app.router.add_get("/v1/models/{model:.+}", handler.show_model, allow_head=False)


@dataclass
class Call:
    """What becomes the row. Without an account `username` is empty: the key was not known."""

    path: str
    id: str
    created_at: float = field(default_factory=time.time)
    begun: float = field(default_factory=time.monotonic)
    account: Account | None = None
    model: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    first: float | None = None
    status: int = 0
    exchange: Exchange | None = None
    stream: Stream | None = None
    converted: Converted | None = None

    def row(self) -> Row:
        place = self.exchange.last if self.exchange else None
        used = self.exchange.used if self.exchange else None
        return Row(
            username=self.account.user if self.account else "",
            path=self.path,
            model=self.model,
            backend=place.backend if place else "",
            status_code=self.status,
            duration_ms=(time.monotonic() - self.begun) * 1000,
            ttft_ms=None if self.first is None else (self.first - self.begun) * 1000,
            queued_ms=place.queued_s * 1000 if place else 0.0,
            prompt_tokens=used.prompt_tokens if used else 0,
            cached_tokens=used.cached_tokens if used else 0,
            completion_tokens=used.completion_tokens if used else 0,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            created_at=self.created_at,
            request_id=self.id,
        )


async def account_of(request: web.Request, keys: Keys) -> Account:
    """Raises Failure."""
    key = key_of(request.headers, request.query if "?" in request.raw_path else ())
    return keys.known(key) or await keys.account(key)


_Answer = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]


class Handler:
    def __init__(self, parts: Parts, upstream: HttpUpstream) -> None:
        self._parts, self._upstream, self._configuration = parts, upstream, parts.configuration
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large bodies")
        """One at a time: each may take several times its size."""

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        return await self._recorded(request, self._models)

    async def show_model(self, request: web.Request) -> web.StreamResponse:
        return await self._recorded(request, self._model)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return await self._recorded(request, self._generate)

    async def _recorded(self, request: web.Request, answer: _Answer) -> web.StreamResponse:
        """One row a request, whatever becomes of it. 499: the caller left."""
        call = Call(request.path, request[REQUEST_ID])
        try:
            response = await answer(request, call)
            call.status = call.status or response.status
            return response
        except (asyncio.CancelledError, ConnectionError):
            call.status = 499
            raise
        except Failure as failure:
            return await self._failed(call, failure, request)
        except Exception:
            log.exception("request %s at %s", call.id, call.path)
            words = f"There was an internal error. Tell the operator of this gateway the request's id, {call.id}."
            return await self._failed(call, Failure(502, words, "internal"), request)
        finally:
            if call.exchange:
                call.exchange.close()
            if call.stream:
                call.stream.stop()
                call.response_bytes = call.stream.bytes
            row = call.row()
            self._parts.log.add(row)
            self._parts.observer.answered(row)

    async def _failed(self, call: Call, failure: Failure, request: web.Request) -> web.StreamResponse:
        call.status = failure.status
        try:
            if call.stream and call.stream.response:
                await call.stream.write(call.converted.fail(failure) if call.converted else error_event(failure, shape_of(request.path)))
                await call.stream.end()
                return call.stream.response
        except (asyncio.CancelledError, ConnectionError):
            call.status = 499
            raise
        response = refusal(failure, shape_of(request.path))
        call.response_bytes = len(response.body) if isinstance(response.body, bytes) else 0
        return response

    async def _models(self, request: web.Request, call: Call) -> web.StreamResponse:
        call.account = await account_of(request, self._parts.keys)
        return self._json(orjson.dumps({"object": "list", "data": self._listed(call.account)}), call)

    async def _model(self, request: web.Request, call: Call) -> web.StreamResponse:
        call.path = "/v1/models"
        call.account = await account_of(request, self._parts.keys)
        name = request.match_info["model"]
        call.model = self._upstream.models.find(name, call.account)
        return self._json(orjson.dumps(next(each for each in self._listed(call.account) if each["id"] == name)), call)

    def _listed(self, account: Account) -> list[dict[str, Any]]:
        meta = {(backend.name, model): said for backend in self._upstream.pool for model, said in backend.meta.items()}
        return self._upstream.models.listed(account, meta)

    async def _generate(self, request: web.Request, call: Call) -> web.StreamResponse:
        call.account = await account_of(request, self._parts.keys)
        route = ROUTES[request.path]
        raw = await read(request, self._configuration.body_mib << 20, self._configuration.body_s)
        call.request_bytes = len(raw)
        if len(raw) > SMALL:
            prepared = await asyncio.get_running_loop().run_in_executor(self._large, self._prepared, request, route, raw, call)
        else:
            prepared = self._prepared(request, route, raw, call)
        del raw
        call.model = prepared.wanted.ask.model
        call.exchange = self._upstream.exchange(prepared.wanted)
        if prepared.stream:
            return await self._streamed(request, prepared, call, call.exchange)
        return await self._whole(prepared, call, call.exchange)

    def _prepared(self, request: web.Request, route: Route, raw: bytes, call: Call) -> Prepared:
        assert call.account
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED}
        headers["X-Request-Id"] = call.id
        content_type = request.headers.get("Content-Type", "application/octet-stream")
        media_type = content_type.partition(";")[0].strip().lower()
        is_form = media_type == "multipart/form-data"
        if is_form != (route.kind == "transcription"):
            wanted = "a form (multipart/form-data)" if route.kind == "transcription" else "JSON"
            raise Failure(415, f"{request.path} takes {wanted}, and this is {media_type[:64]}.", "wrong_type")
        if is_form:
            return prepare_form(self._upstream.models, call.account, route, Form(raw, content_type), headers, content_type)
        return prepare(self._upstream.models, call.account, route, Body(raw), headers)

    async def _streamed(self, request: web.Request, prepared: Prepared, call: Call, exchange: Exchange) -> web.StreamResponse:
        call.stream = stream = Stream(request, self._configuration.heartbeat_s)
        await self._opened(prepared, call, exchange, stream)
        assert exchange.place
        if exchange.whole is not None:
            if exchange.status == 200 and stream.response:
                raise Failure(502, "The back end answered without a stream.", "backend_failed")
            return await self._passed(prepared, call, exchange)
        if stream.response is None:
            await stream.start(self._headers(call))
        renamed = Renamed(prepared.asked_name, exchange.place.model)
        call.converted = converted = prepared.converter.stream() if prepared.converter else None
        last = b""
        async for batch in exchange.events():
            if call.first is None and events.has_content(batch):
                call.first = time.monotonic()
            if converted:
                if exchange.error:
                    raise failure_of(exchange.error)
                batch = b"".join([converted.feed(said) for said in events.objects(batch)])
            said = renamed(batch)
            if exchange.complete and prepared.wanted.kind != "native":
                last = said  # goes with the end of the body
            elif said:
                await stream.write(said)
        if not exchange.complete:
            call.status = 502  # the back end has said in an event what went wrong
        await stream.end(last + converted.end() if converted else last)
        assert stream.response
        return stream.response

    async def _opened(self, prepared: Prepared, call: Call, exchange: Exchange, stream: Stream) -> None:
        """Meanwhile the caller hears a comment at each heartbeat."""
        loop = asyncio.get_running_loop()
        begun: list[asyncio.Task[None]] = []
        timer = loop.call_later(
            self._configuration.heartbeat_s, lambda: begun.append(loop.create_task(self._begin(prepared, call, exchange, stream)))
        )
        try:
            await exchange.open()
        finally:
            timer.cancel()
            if begun:
                await asyncio.gather(*begun, return_exceptions=True)

    async def _begin(self, prepared: Prepared, call: Call, exchange: Exchange, stream: Stream) -> None:
        headers = self._headers(call)
        if exchange.place is None:
            forecast = self._parts.dispatcher.forecast(prepared.wanted.ask)
            headers |= {"X-Queue-Position": str(forecast.position), "X-Queue-Wait": f"{forecast.wait_s:.1f}"}
        await stream.start(headers)
        await stream.write(COMMENT)

    async def _whole(self, prepared: Prepared, call: Call, exchange: Exchange) -> web.StreamResponse:
        await exchange.open()
        assert exchange.place
        if exchange.whole is not None:
            return await self._passed(prepared, call, exchange)
        made, size = assembly(prepared.wanted.kind), 0
        try:
            async for batch in exchange.events():
                if exchange.error:
                    raise failure_of(exchange.error)
                size += len(batch) - BESIDE_TEXT * batch.count(b"\n\n")
                if size > LARGEST:
                    raise Failure(502, "The back end sent an answer that is too large.", "backend_failed")
                if made.add(batch) and call.first is None:
                    call.first = time.monotonic()
            answer = made.whole()
        except (Broken, KeyError, TypeError, AttributeError, IndexError):
            exchange.complete = False
            raise Failure(502, "The back end's events make no answer.", "backend_failed") from None
        if prepared.converter:
            answer = prepared.converter.whole(answer)
        renamed = Renamed(prepared.asked_name, exchange.place.model)
        return self._json(renamed(orjson.dumps(answer)), call)

    async def _passed(self, prepared: Prepared, call: Call, exchange: Exchange) -> web.StreamResponse:
        """An answer of the back end that is no stream: its error about this request, or what only goes up unstreamed."""
        assert exchange.place and exchange.whole is not None
        answer = exchange.whole
        if exchange.status != 200:
            if (call.stream and call.stream.response) or shape_of(call.path) == "anthropic":
                failure = failure_of(b"data: " + answer.replace(b"\n", b" ") + b"\n\n")
                raise Failure(exchange.status, failure.message, "backend_refused")
            return self._json(answer, call, exchange.status)
        if prepared.converter:
            answer = orjson.dumps(prepared.converter.whole(orjson.loads(answer)))
        if prepared.wanted.kind not in ("image", "plain"):
            call.first = time.monotonic()
        return self._json(Renamed(prepared.asked_name, exchange.place.model)(answer), call)

    def _headers(self, call: Call) -> dict[str, str]:
        place = call.exchange.place if call.exchange else None
        return {"X-Queue-Position": str(place.position), "X-Queue-Wait": f"{place.queued_s:.1f}"} if place else {}

    def _json(self, raw: bytes, call: Call, status: int = 200) -> web.Response:
        call.response_bytes = len(raw)
        return web.Response(status=status, body=raw, headers={"Content-Type": "application/json; charset=utf-8", **self._headers(call)})

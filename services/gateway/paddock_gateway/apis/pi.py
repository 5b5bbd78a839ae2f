"""The small host's API: `/generate`, `/benchmark`, `/health` and `/keys/generate`, as programs of that system know them.

Events of `/generate`: `token` has `{"token": "Hel", "text": "Hel"}` (the same twice: clients of either name read it), `done` has
`{"prompt_tokens", "completion_tokens", "total_tokens", "finish_reason"}`, `error` has `{"error": "…", "detail": "…"}`.
A line `: waiting` is a comment while the first token is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, TypeAlias, cast

import orjson
from aiohttp import web
from msgspec import Meta, Struct

from paddock_gateway.apis import benchmark, keys_generate
from paddock_gateway.apis.answers import failing_as, json
from paddock_gateway.apis.body import detail, read
from paddock_gateway.apis.caller import account_of
from paddock_gateway.apis.refused import noted
from paddock_gateway.contract import Account, Figures, Parts
from paddock_gateway.errors import Failure
from paddock_gateway.request_id import REQUEST_ID
from paddock_gateway.settings import Configuration, Limits, Pi

LOGGER = logging.getLogger(__name__)
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
Chunks: TypeAlias = "AsyncGenerator[Mapping[str, Any], None]"
WARM_UP = "the model's warm-up"
AGAIN_S = 2.0
"""Between two tries to warm up."""
LOOK_S = 0.1
"""Between two looks whether a back end is up yet."""


class Generate(Struct):
    """The body of `/generate`."""

    prompt: Annotated[str, Meta(min_length=1, max_length=8192)]
    system: Annotated[str, Meta(max_length=4096)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2048)] | None = None
    """None: what the gateway's settings say."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Meta(ge=0, le=1)] = 0.9
    top_k: Annotated[int, Meta(ge=1, le=100)] = 40
    stop: Annotated[tuple[str, ...], Meta(max_length=4)] | None = None
    stream: bool = True


class Generated(Struct):
    """The answer where `stream` is false."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Health(Struct):
    """`status` is `healthy`, `draining`, `starting` (before the warm-up) or `unhealthy` (no back end has the model)."""

    status: str
    model_loaded: bool
    model_path: str
    queue_size: int
    active_requests: int
    max_concurrent: int


def add_routes(app: web.Application, parts: Parts) -> None:
    """Nothing where the settings have no `pi`."""
    settings = parts.configuration.pi
    if settings is None:
        return

    @failing_as(detail)
    async def generate(request: web.Request) -> web.StreamResponse:
        with noted(parts, request, None):
            account = await account_of(request, parts)
        with noted(parts, request, account):
            asked = await read(request, parts, Generate)
        body, of = completion(asked, settings), request[REQUEST_ID]
        chunks = parts.upstream.chunks(account, "/v1/chat/completions", body, logged_as="/generate", request_id=of)
        if asked.stream:
            return await _streamed(request, cast(Chunks, chunks), parts.configuration.heartbeat_s)
        return json(await _whole(cast(Chunks, chunks)))

    async def health(request: web.Request) -> web.StreamResponse:
        return json(condition(parts, settings))

    app.router.add_post("/generate", generate)
    app.router.add_get("/health", health)
    benchmark.add_routes(app, parts, settings)
    keys_generate.add_routes(app, parts, settings)
    if settings.warm_up:
        parts.readiness.awaits.add(WARM_UP)
        app.cleanup_ctx.append(lambda _: _warming(parts, settings))


def completion(asked: Generate, settings: Pi) -> dict[str, Any]:
    """The body of `/v1/chat/completions` that asks for the same."""
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    return {
        "model": settings.model,
        "messages": [*system, {"role": "user", "content": asked.prompt}],
        "max_tokens": asked.max_tokens or settings.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        **({"stop": asked.stop} if asked.stop else {}),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def condition(parts: Parts, settings: Pi) -> Health:
    """What /health says."""
    figures = parts.dispatcher.figures()
    loaded = serves(parts.configuration, figures, settings.model)
    status = "healthy" if loaded else "unhealthy"
    if parts.readiness.awaits:
        status = "starting"
    if parts.dispatcher.draining:
        status = "draining"
    return Health(
        status=status,
        model_loaded=loaded and not parts.readiness.awaits,
        model_path=settings.model,
        queue_size=figures.waiting,
        active_requests=figures.running,
        max_concurrent=settings.max_concurrent,
    )


def serves(configuration: Configuration, figures: Figures, name: str) -> bool:
    """Whether a back end of this model, by its id or an alias, is up."""
    return any(
        figures.slots_by_backend.get(target.backend)
        for model, entry in configuration.models.items()
        if name == model or name in entry.aliases
        for target in entry.targets
    )


def text_of(chunk: Mapping[str, Any]) -> str:
    """What a chunk of `/v1/chat/completions` adds to the answer."""
    return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices") or ())


def counts(chunk: Mapping[str, Any]) -> dict[str, int]:
    """The three counts of a chunk's `usage`; empty where it has none."""
    usage = chunk.get("usage") or {}
    prompt, made = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made} if usage else {}


def _finish(chunk: Mapping[str, Any]) -> str | None:
    return next((choice["finish_reason"] for choice in chunk.get("choices") or () if choice.get("finish_reason")), None)


async def _whole(chunks: Chunks) -> dict[str, Any]:
    text, used = [], {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    async with aclosing(chunks):
        async for chunk in chunks:
            text.append(text_of(chunk))
            used |= counts(chunk)
    return {"text": "".join(text), **used}


async def _streamed(request: web.Request, chunks: Chunks, pause_s: float) -> web.StreamResponse:
    """A failure before the first event has its own status, unless a comment had to go first; after it, it is the event `error`."""
    answer = web.StreamResponse(headers={**EVENTS, "X-Request-Id": request[REQUEST_ID]})
    used: dict[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "finish_reason": None}
    try:
        try:
            async with aclosing(_with_pauses(chunks, pause_s)) as paced:
                async for chunk in paced:
                    if not answer.prepared:
                        await answer.prepare(request)
                    if chunk is None:
                        await answer.write(b": waiting\n\n")
                        continue
                    used |= counts(chunk)
                    used["finish_reason"] = _finish(chunk) or used["finish_reason"]
                    if text := text_of(chunk):
                        await answer.write(event("token", {"token": text, "text": text}))
            if not answer.prepared:
                await answer.prepare(request)
            await answer.write(event("done", used))
        except Failure as failure:
            if not answer.prepared:
                raise
            await answer.write(event("error", {"error": failure.message, "detail": failure.message}))
        await answer.write_eof()
    except ConnectionError:
        pass  # the caller has gone, and what ran for it is cancelled
    return answer


def event(name: str, content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(content))


async def _with_pauses(chunks: Chunks, pause_s: float) -> AsyncGenerator[Mapping[str, Any] | None, None]:
    """The chunks, and None whenever none has come for so long. A reader that is slow holds back who writes."""
    queue: asyncio.Queue[Mapping[str, Any] | Exception | None] = asyncio.Queue(8)

    async def pump() -> None:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await queue.put(chunk)
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    pumping = asyncio.ensure_future(pump())
    try:
        while True:
            try:
                chunk = await asyncio.wait_for(queue.get(), pause_s)
            except asyncio.TimeoutError:
                yield None
                continue
            if isinstance(chunk, Exception):
                raise chunk
            if chunk is None:
                return
            yield chunk
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


async def _warming(parts: Parts, settings: Pi) -> AsyncGenerator[None, None]:
    """Asks for one token, beside what else goes on, until a back end gives it."""
    warming = asyncio.ensure_future(warm_up(parts, settings))
    yield
    warming.cancel()
    await asyncio.gather(warming, return_exceptions=True)


async def warm_up(parts: Parts, settings: Pi) -> None:
    account = Account(user="paddock-gateway", key="", models=None, limits=Limits())
    body = completion(Generate(prompt="Hello", max_tokens=1), settings)
    while True:
        if not serves(parts.configuration, parts.dispatcher.figures(), settings.model):
            await asyncio.sleep(LOOK_S)
            continue
        try:
            chunks = parts.upstream.chunks(account, "/v1/chat/completions", body, logged_as="warm-up")
            async for _ in chunks:
                pass
        except Failure as failure:
            LOGGER.warning("The model did not warm up yet: %s", failure.message)
            await asyncio.sleep(AGAIN_S)
        else:
            parts.readiness.awaits.discard(WARM_UP)
            return

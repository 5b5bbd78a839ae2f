"""What back ends of these tests say, and what they are asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    """An event of a streamed chat, as llama-server writes it."""
    choices = [] if delta is None else [{"finish_reason": more.pop("finish_reason", None), "index": more.pop("index", 0), "delta": delta}]
    said = {"choices": choices, "created": 1, "id": "chatcmpl-1", "model": "small", "object": "chat.completion.chunk", **more}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


TIMINGS = {"cache_n": 2, "prompt_n": 3, "predicted_n": 2}
USAGE = {"completion_tokens": 2, "prompt_tokens": 5, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
DONE = b"data: [DONE]\n\n"
HELLO = [
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo"}),
    chunk({}, finish_reason="stop", timings=TIMINGS),
    DONE,
]


def streaming(*events: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Events, one a write, and a whole end."""

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Server": "llama.cpp", **(headers or {})})
        await response.prepare(request)
        for event in events:
            await response.write(event)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return answer


def endless(*events: bytes, started: bool = True) -> Answer:
    """Events, then nothing. Not `started`: not even headers."""

    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if started:
            await response.prepare(request)
        for event in events:
            await response.write(event)
        await asyncio.sleep(3600)
        return response

    return answer


def json_answer(said: Any, status: int = 200) -> Answer:
    async def answer(request: web.Request, raw: bytes) -> web.StreamResponse:
        return web.json_response(said, status=status)

    return answer


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "Hi"}], **more}

"""What every handler of an API answers with: JSON, and a failure in the API's own shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

import orjson
from aiohttp import web
from msgspec import to_builtins

from paddock_gateway.errors import Failure
from paddock_gateway.request_id import REQUEST_ID, request_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Shape = Callable[[Failure], Mapping[str, Any]]


def json(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`content` may hold msgspec's structs."""
    return web.Response(body=orjson.dumps(content, default=to_builtins), status=status, headers=headers, content_type="application/json")


def failing_as(shape: Shape) -> Callable[[Handler], Handler]:
    """A handler whose Failure is answered in this shape, with its status and headers. Every answer has its X-Request-Id, and `request` has
    it under REQUEST_ID."""

    def of(handler: Handler) -> Handler:
        @wraps(handler)
        async def answer(request: web.Request) -> web.StreamResponse:
            request[REQUEST_ID] = request.get(REQUEST_ID) or request_id(request)
            try:
                found = await handler(request)
            except Failure as failure:
                found = json(shape(failure), status=failure.status, headers=failure.headers)
                if failure.status == 401:
                    found.headers["WWW-Authenticate"] = "Bearer"
            if not found.prepared:
                found.headers["X-Request-Id"] = request[REQUEST_ID]
            return found

        return answer

    return of

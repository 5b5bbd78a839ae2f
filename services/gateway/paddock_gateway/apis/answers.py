"""What every handler of an API answers with: JSON, and a failure in the API's own shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

import orjson
from aiohttp import web
from msgspec import to_builtins

from paddock_gateway.errors import Failure

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Shape = Callable[[Failure], Mapping[str, Any]]


def json(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`content` may hold msgspec's structs."""
    return web.Response(body=orjson.dumps(content, default=to_builtins), status=status, headers=headers, content_type="application/json")


def failing_as(shape: Shape) -> Callable[[Handler], Handler]:
    """A handler whose Failure is answered in this shape, with its status and headers."""

    def of(handler: Handler) -> Handler:
        @wraps(handler)
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Failure as failure:
                headers = dict(failure.headers)
                if failure.status == 401:
                    headers["WWW-Authenticate"] = "Bearer"
                return json(shape(failure), status=failure.status, headers=headers)

        return answer

    return of

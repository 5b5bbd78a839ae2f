"""The gateway as an application: the proxy's routes, those of other APIs, and words for every refusal."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from paddock_gateway.contract import Parts
from paddock_gateway.errors import Failure
from paddock_gateway.proxy import handler as proxy
from paddock_gateway.proxy.outgoing import refusal
from paddock_gateway.proxy.routes import shape_of
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.request_id import REQUEST_ID, request_id

log = logging.getLogger(__name__)

SERVER = "paddock-gateway"

AddRoutes = Callable[[web.Application, Parts], None]


def application(parts: Parts, others: Sequence[AddRoutes] = ()) -> web.Application:
    """`others` register the routes of the gateway's other APIs. `parts.upstream` is the proxy's HttpUpstream: its connections open with
    the application and close with it. Run it with `handler_cancellation=True`, or nobody hears that a caller left."""
    upstream = parts.upstream
    if not isinstance(upstream, HttpUpstream):
        raise TypeError("parts.upstream is to be a paddock_gateway.proxy.upstream.HttpUpstream")
    app = web.Application(middlewares=[worded], client_max_size=parts.configuration.body_mib * 1024 * 1024)
    proxy.add_routes(app, parts, upstream)
    for add_routes in others:
        add_routes(app, parts)

    async def connections(_: web.Application) -> AsyncIterator[None]:
        await upstream.pool.open()
        yield
        await upstream.pool.close()

    app.cleanup_ctx.append(connections)
    app.on_response_prepare.append(_signed)
    return app


@web.middleware
async def worded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is said in JSON, in the shape of the API that the path belongs to, and nothing is a 500."""
    request[REQUEST_ID] = request_id(request)
    try:
        return await handler(request)
    except Failure as error:
        failure = error
    except web.HTTPException as error:
        if error.status < 400:
            raise
        failure = _said(request, error)
    except ConnectionError:
        return web.Response(status=499)  # the caller left: nobody reads this
    except Exception:
        log.exception("request at %s", request.path)
        failure = Failure(502, "There was an internal error, which is in the gateway's journal.", "internal")
    if request.writer.output_size > 0:
        raise ConnectionError("the answer has begun: all that can be done is to cut it off")
    response = refusal(failure, shape_of(request.path))
    if isinstance(failure.__cause__, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = failure.__cause__.headers["Allow"]
    return response


async def _signed(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER
    response.headers["X-Request-Id"] = request[REQUEST_ID]


def _said(request: web.Request, error: web.HTTPException) -> Failure:
    path = request.path[:128]
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        failure = Failure(405, f"{path} takes {allowed}, not {request.method[:32]}.", "wrong_method")
        failure.__cause__ = error
        return failure
    if error.status == 404:
        return Failure(404, f"There is no {path or 'such page'} here.", "no_such_path")
    return Failure(error.status if error.status < 500 else 502, error.reason, "refused")

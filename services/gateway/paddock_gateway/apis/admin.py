"""The administrator's API: `/admin/drain`, `/admin/resume`, `/admin/status`; for programs that watch `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from paddock_gateway.apis.answers import failing_as, json
from paddock_gateway.apis.body import read
from paddock_gateway.apis.caller import LOOPBACK, administrator, comes_from
from paddock_gateway.contract import Parts
from paddock_gateway.errors import openai_error
from paddock_gateway.metrics import CONTENT_TYPE, Metrics

Admission = Callable[[web.Request], Awaitable[Any]]
"""Raises Failure for a caller who may not."""


class Drain(Struct):
    """The body of `/admin/drain`, which may be left out."""

    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 0
    """Answer only when nothing runs any more, or after so long."""


def add_routes(app: web.Application, parts: Parts) -> None:
    """At the gateway's own address: for administrators' keys. The metrics are for callers on this host, too."""

    async def admission(request: web.Request) -> None:
        await administrator(request, parts)

    async def near(request: web.Request) -> None:
        if not comes_from(request, LOOPBACK):
            await administrator(request, parts)

    _add_administration(app, parts, admission)
    _add_watching(app, parts, near)


def admin_application(parts: Parts) -> web.Application:
    """For the Unix socket, whose mode says who may: everything without a key."""
    app = web.Application(client_max_size=1024)
    _add_administration(app, parts, _anybody)
    _add_watching(app, parts, _anybody)
    return app


def metrics_application(parts: Parts) -> web.Application:
    """For the second address: `/metrics`, `/livez`, `/readyz`, without a key."""
    app = web.Application(client_max_size=1024)
    _add_watching(app, parts, _anybody)
    return app


async def _anybody(request: web.Request) -> None:
    pass


def _add_administration(app: web.Application, parts: Parts, admission: Admission) -> None:
    @failing_as(openai_error)
    async def drain(request: web.Request) -> web.StreamResponse:
        await admission(request)
        asked = await read(request, parts, Drain) if request.can_read_body else Drain()
        parts.dispatcher.drain()
        if asked.wait_s:
            with suppress(asyncio.TimeoutError):  # the status says what still runs
                await asyncio.wait_for(parts.dispatcher.idle(), asked.wait_s)
        return json(status(parts))

    @failing_as(openai_error)
    async def resume(request: web.Request) -> web.StreamResponse:
        await admission(request)
        parts.dispatcher.resume()
        return json(status(parts))

    @failing_as(openai_error)
    async def show(request: web.Request) -> web.StreamResponse:
        await admission(request)
        return json(status(parts))

    app.router.add_post("/admin/drain", drain)
    app.router.add_post("/admin/resume", resume)
    app.router.add_get("/admin/status", show)


def _add_watching(app: web.Application, parts: Parts, admission: Admission) -> None:
    async def livez(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.StreamResponse:
        why = unready(parts)
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    metrics = parts.observer
    if not isinstance(metrics, Metrics):
        return

    @failing_as(openai_error)
    async def page(request: web.Request) -> web.StreamResponse:
        await admission(request)
        return web.Response(body=await metrics.text(parts), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/metrics", page)


def unready(parts: Parts) -> str:
    """Why no request should come now; empty where it may."""
    if parts.dispatcher.draining:
        return "The gateway drains."
    if parts.readiness.awaits:
        return f"The gateway awaits {', '.join(sorted(parts.readiness.awaits))}."
    if not any(parts.dispatcher.figures().slots_by_backend.values()):
        return "No back end is up."
    return ""


def status(parts: Parts) -> dict[str, Any]:
    """What /admin/status shows. `idle`: nothing waits and nothing runs."""
    figures = parts.dispatcher.figures()
    return {
        "ready": not unready(parts),
        "why_not": unready(parts) or None,
        "draining": parts.dispatcher.draining,
        "idle": not figures.waiting and not figures.running,
        "waiting": figures.waiting,
        "running": figures.running,
        "waiting_by_model": figures.waiting_by_model,
        "limited": figures.limited,
        "backends": {
            name: {
                "up": bool(figures.slots_by_backend.get(name)),
                "slots": figures.slots_by_backend.get(name, 0),
                "running": figures.running_by_backend.get(name, 0),
                "swaps": figures.swaps_by_backend.get(name, 0),
            }
            for name in parts.configuration.backends
        },
    }

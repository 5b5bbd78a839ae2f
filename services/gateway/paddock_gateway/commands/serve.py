"""serve: answers requests until SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import os
from argparse import Namespace

import uvloop

from paddock_gateway import logs, openapi
from paddock_gateway.apis import admin, litellm, pi
from paddock_gateway.app import application
from paddock_gateway.contract import Parts
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.listening import BadAddress
from paddock_gateway.metrics import Metrics
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.server import serve
from paddock_gateway.settings import Configuration, SettingsError, configuration
from paddock_gateway.store.opening import open_store
from paddock_gateway.tracing import Traces


def run(options: Namespace) -> int:
    """Raises SettingsError, StoreError."""
    said = configuration(options.configuration)
    os.environ.setdefault("UV_USE_IO_URING", "0")  # libuv would make a system call of it for each of a request's changes to its poll set
    uvloop.install()
    with logs.written(requests=said.access_log):
        asyncio.run(_serve(said))
    return 0


async def _serve(said: Configuration) -> None:
    store = await open_store(said)
    try:
        dispatcher = FairDispatcher(said, lender=store.lender)
        traces = Traces(said.tracing, logs.AccessLog()) if said.tracing else None
        observer = Metrics(said, traces or logs.AccessLog(), traces)
        upstream = HttpUpstream(said, dispatcher, store.log, observer)
        parts = Parts(said, store.keys, store.users, dispatcher, store.log, observer, upstream)
        app = application(parts, (admin.add_routes, pi.add_routes, litellm.add_routes, openapi.add_routes))
        others = [(said.metrics_listen, admin.metrics_application(parts))] if said.metrics_listen else []
        if said.admin_socket:
            others.append((f"unix:{said.admin_socket}", admin.admin_application(parts)))
        gc.collect()
        gc.freeze()  # what stays is not looked through again
        gc.set_threshold(10_000, 20, 20)
        if traces:
            traces.start()
        try:
            await serve(said, app, dispatcher, others=others)
        except BadAddress as error:
            raise SettingsError(str(error)) from None
        except OSError as error:
            raise SettingsError(f"listen: {error.strerror or error}") from None
        finally:
            if traces:
                await traces.close()
    finally:
        await store.close()

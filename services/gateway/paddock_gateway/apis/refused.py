"""Rows of requests for which no back end was asked: Upstream.chunks writes those of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from paddock_gateway.contract import Account, Parts, Row
from paddock_gateway.errors import Failure
from paddock_gateway.request_id import REQUEST_ID


@contextmanager
def noted(parts: Parts, request: web.Request, account: Account | None) -> Iterator[None]:
    """What fails in it, or is left by the caller (499), gets a row."""
    created_at, begun = time.time(), time.monotonic()
    try:
        yield
    except (Failure, asyncio.CancelledError, ConnectionError) as error:
        status = error.status if isinstance(error, Failure) else 499
        took_ms = (time.monotonic() - begun) * 1000
        user = account.user if account else ""
        sent = request.content_length or 0
        row = Row(user, request.path, "", "", status, took_ms, None, 0.0, 0, 0, 0, sent, 0, created_at, request[REQUEST_ID])
        parts.log.add(row)
        parts.observer.answered(row)
        raise

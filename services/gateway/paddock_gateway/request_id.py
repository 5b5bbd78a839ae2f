"""The id of a request: in the answer's headers, in the row, in the journal, and passed on to the back end."""

from __future__ import annotations

import random
import re

from aiohttp import web

REQUEST_ID = web.RequestKey("request_id", str)
"""`request[REQUEST_ID]`, on every request that reaches a route."""

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(request: web.BaseRequest) -> str:
    """The caller's own X-Request-Id where it is sane, else a new one."""
    said = request.headers.get("X-Request-Id", "")
    return said if _SANE.fullmatch(said) else f"{random.getrandbits(128):032x}"

"""HTTP to servers that listen on Unix sockets, and to servers that others can stand in for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import httpx

TIMEOUT = httpx.Timeout(None, connect=5.0)
"""LiteLLM has a timeout of its own for each request."""

LOOK_S = 5.0
KEPT_S = 4.0
"""llama-server closes a connection after 5 seconds without a request."""

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEPT_S)


class Looking(httpx.AsyncBaseTransport):
    """Asks a server by `HEAD /health` whether it lets in callers, before it sends what is computed: else that would wait in front of a
    server that is stopped or starts anew. Raises httpx.ConnectError where it does not, and LiteLLM asks another."""

    def __init__(self, way: httpx.AsyncBaseTransport) -> None:
        self._way = way

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            await self._look(request.url)
        return await self._way.handle_async_request(request)

    async def _look(self, url: httpx.URL) -> None:
        timeout = httpx.Timeout(LOOK_S).as_dict()
        look = httpx.Request("HEAD", url.copy_with(raw_path=b"/health"), extensions={"timeout": timeout})
        try:
            answer = await self._way.handle_async_request(look)
            await answer.aread()  # so that the connection is kept
        except httpx.TransportError as error:
            raise httpx.ConnectError(f"{url.host} lets in nobody now") from error
        if answer.is_error:
            raise httpx.ConnectError(f"{url.host} lets in nobody now: {answer.status_code}")

    async def aclose(self) -> None:
        await self._way.aclose()


def by_sockets(sockets: Mapping[str, str], replaceable: Collection[str]) -> httpx.AsyncClient:
    """A client that reaches some hosts by a path: {"rig-8080.invalid": "/run/paddock/llama-server.sock"}. Others it calls as usual.
    Of those that are `replaceable`, `HOST` or `ADDRESS:PORT` each, it finds out first whether they let in callers."""
    ways = {each: httpx.AsyncHTTPTransport(uds=sockets.get(each), limits=LIMITS) for each in {*sockets, *replaceable}}
    mounts = {f"http://{each}": Looking(way) if each in replaceable else way for each, way in ways.items()}
    return httpx.AsyncClient(mounts=mounts, timeout=TIMEOUT, limits=LIMITS, trust_env=False)

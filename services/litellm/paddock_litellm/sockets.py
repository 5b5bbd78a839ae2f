"""HTTP to servers that listen on Unix sockets."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

TIMEOUT = httpx.Timeout(None, connect=5.0)
"""LiteLLM has a timeout of its own for each request."""

KEPT_S = 4.0
"""llama-server closes a connection after 5 seconds without a request."""


def by_sockets(sockets: Mapping[str, str]) -> httpx.AsyncClient:
    """A client that reaches some hosts by a path: {"rig-8080.invalid": "/run/paddock/llama-server.sock"}. Others it calls as usual."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEPT_S)
    mounts = {f"http://{host}": httpx.AsyncHTTPTransport(uds=path, limits=limits) for host, path in sockets.items()}
    return httpx.AsyncClient(mounts=mounts, timeout=TIMEOUT, limits=limits, trust_env=False)

"""What clients that are no administrators may ask of a site: an allow-list of methods and paths.

A request is compared as llama-server will get it, byte for byte: there is one spelling of each path, and every other is refused. The routes
are those of llama.cpp's tools/server/server.cpp. Those that only compute are open. Those that change what others have (`/models/unload`),
that show it (`/slots`) or that reach beyond the server (`/cors-proxy`) are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from roles.caddy.settings import LISTED, Route

COMPUTING = (
    *("/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/completion", "/infill"),
    *("/v1/responses", "/responses", "/v1/messages"),
    *("/v1/embeddings", "/embeddings", "/embedding", "/v1/rerank", "/rerank", "/v1/reranking", "/reranking"),
    *("/v1/audio/transcriptions", "/audio/transcriptions"),
    *("/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"),
    *("/v1/chat/completions/input_tokens", "/chat/completions/input_tokens", "/v1/responses/input_tokens", "/responses/input_tokens"),
)
"""Posted to. The answer hangs on the request and on the model alone."""

HEALTH = ("/health", "/v1/health")

NAME = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
PAGE = (f"/(?:{NAME}/)*{NAME}[.](?:css|html|ico|js|json|mjs|png|svg|txt|wasm|webmanifest|woff2)", "/")
"""Patterns of the files of llama-server's web page, which no route of its API looks like."""

BELOW = f"(?:/{NAME})+"
"""What `/*` at the end of a route stands for."""

PAGE_HEADERS = (
    *("authorization", "content-type", "idempotency-key", "openai-organization", "openai-project", "user-agent", "x-api-key"),
    *("anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-version"),
    *(f"x-stainless-{each}" for each in ("arch", "async", "custom-poll-interval", "helper", "helper-method", "lang", "os")),
    *(f"x-stainless-{each}" for each in ("package-version", "poll-helper", "retry-count", "runtime", "runtime-version", "timeout")),
)
"""What pages of a site's `origins` may send besides what every page may: what the clients of OpenAI and of Anthropic for JavaScript do. A
browser takes no `*` where it shows a certificate."""


def page_methods(routes: Iterable[Route]) -> Iterator[str]:
    """What pages of a site's `origins` may ask with."""
    yield from dict.fromkeys(("GET", "POST", *(route.partition(" ")[0] for route in routes)))


def patterns(routes: Iterable[Route]) -> Iterator[tuple[str, str]]:
    """Methods, as Caddy's matcher takes them, and the pattern of the URIs that clients may ask for with them."""
    found = {"GET HEAD": [*HEALTH, *PAGE], "POST": [*COMPUTING]}
    for route in routes:
        method, _, path = route.partition(" ")
        found.setdefault({"GET": "GET HEAD"}.get(method, method), []).append(_exactly(path))
    return ((methods, uri(paths)) for methods, paths in found.items())


def is_open(method: str, path: str, routes: Iterable[Route]) -> bool:
    """Whether clients that are no administrators may ask for it."""
    return any(method in methods.split() and re.search(pattern, path) for methods, pattern in patterns(routes))


def listed() -> str:
    """The pattern of the URIs that the model list answers."""
    return uri(LISTED)


def uri(paths: Iterable[str]) -> str:
    """A pattern of Go's for one of these paths, whatever is asked behind a question mark."""
    return f"^(?:{'|'.join(paths)})(?:[?]|$)"


def _exactly(path: str) -> str:
    return path.removesuffix("/*").replace(".", "[.]") + (BELOW if path.endswith("/*") else "")

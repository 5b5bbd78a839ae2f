"""The seam for APIs that go up as another: Messages, say, as chat completions, so that `id_slot` and `cache_prompt` hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from paddock_gateway.errors import Failure
from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.functions import Functions, is_legacy
from paddock_gateway.proxy.routes import Route


class Stream(Protocol):
    """One streamed answer. Nothing is asked of it after `end` or `fail`."""

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The caller's events for one of the back end's; empty where there is none. Raises Failure for an error of the back end's."""

    def end(self) -> bytes: ...

    def fail(self, failure: Failure) -> bytes: ...


class Converter(Protocol):
    def request(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """A path of ROUTES and the body for it. Raises Failure where the request cannot be said there."""

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """An unstreamed answer of the back end, as the caller's API has it."""

    def stream(self) -> Stream: ...


CONVERTERS: Mapping[str, Converter] = {}
"""Of whole APIs: path → how it is converted. A path without one goes up as it came."""


def converter(route: Route, body: Body) -> Converter | None:
    if route.kind == "chat" and is_legacy(body):
        return Functions()
    return CONVERTERS.get(route.path)

"""What the proxy asks of a conversion, and which paths have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from paddock_gateway.convert.anthropic import Messages
from paddock_gateway.errors import Failure


class Stream(Protocol):
    """One streamed answer: chunks of a chat completion in, the caller's events out. Nothing comes out after `end` or `fail`."""

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The events that a parsed chunk becomes; empty where it becomes none. Raises Failure where the chunk is an error of the back
        end's, or no chunk at all: `fail` says it to the caller."""

    def end(self) -> bytes:
        """The last events. Where the back end ended before the answer was whole, they say so."""

    def fail(self, failure: Failure) -> bytes:
        """An answer that breaks off, in the caller's own format."""


class Converter(Protocol):
    def request(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Path and body for the back end. It shares parts of the caller's body: only its own keys may be set. Raises Failure, 400."""

    def whole(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """What a chat completion becomes. Its `__verbose`, where the back end sends one, is needed too. Raises Failure, 502."""

    def stream(self) -> Stream: ...


CONVERTERS: Mapping[str, Converter] = {"/v1/messages": Messages()}
"""Path → how it is converted. Every other path goes through as it is."""

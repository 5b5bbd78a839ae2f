"""What a request fails with, in words for the caller, and the shape in which each API says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

OPENAI_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    411: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    502: "api_error",
    503: "unavailable_error",
    504: "timeout_error",
}
"""Status → `error.type`, as llama-server and OpenAI have them."""

ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Status → `error.type` of Anthropic's API; every other status is `invalid_request_error`."""


class Failure(Exception):
    """A request that gets no answer. `message` says what is wrong and what to do; `code` is a word for programs: `model_not_found`.

    `retry_after_s` becomes the header Retry-After, in whole seconds, at least 1.
    """

    def __init__(self, status: int, message: str, code: str = "", *, param: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after_s = status, message, code, param, retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}


def openai_error(failure: Failure) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`"""
    kind = OPENAI_TYPES.get(failure.status, "api_error")
    return {"error": {"message": failure.message, "type": kind, "param": failure.param or None, "code": failure.code or None}}


def anthropic_error(failure: Failure) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message"}}`"""
    kind = ANTHROPIC_TYPES.get(failure.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": failure.message}}


def detail_error(failure: Failure) -> dict[str, Any]:
    """`{"detail": …}`, as programs on FastAPI say it: the small host's API and the management of keys."""
    return {"detail": failure.message}

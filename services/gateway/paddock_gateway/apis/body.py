"""A request's JSON: read within bounds, decoded to a type, and what is wrong with it as FastAPI says it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from paddock_gateway.contract import Parts
from paddock_gateway.errors import Failure
from paddock_gateway.proxy import body

MOST_BYTES = 160 * 1024
"""The longest prompt and system prompt of /generate, each character of them written as `\\uXXXX\\uXXXX`, are 144 KiB."""

T = TypeVar("T")


class Invalid(Failure):
    """422: a body that is no JSON or does not fit. `where` is FastAPI's `loc`: `("body", "stop", 0)`; `kind` its `type`."""

    def __init__(self, where: tuple[str | int, ...], message: str, kind: str) -> None:
        super().__init__(422, message, kind, param=".".join(map(str, where[1:])))
        self.where, self.kind = where, kind


def detail(failure: Failure) -> dict[str, Any]:
    """`{"detail": …}` of FastAPI: a list of what is wrong where for a body that does not fit, else words."""
    if isinstance(failure, Invalid):
        return {"detail": [{"type": failure.kind, "loc": failure.where, "msg": failure.message}]}
    return {"detail": failure.message}


async def read(request: web.Request, parts: Parts, kind: type[T]) -> T:
    """The body as `kind`, whatever content type it says: curl's -d says it is a form. Unknown fields are ignored, as FastAPI does.

    Raises Invalid (422), and Failure: 413 over 160 KiB, 408 where it does not come in time, 400 where it ends early.
    """
    return decoded(await body.read(request, MOST_BYTES, parts.configuration.body_s), kind)


def decoded(said: bytes, kind: type[T]) -> T:
    """As read; numbers and booleans may stand in quotes, as with FastAPI."""
    if not said.strip():
        raise Invalid(("body",), "Field required", "missing")
    try:
        return msgspec.json.decode(said, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        at = re.search(r"\(byte (\d+)\)", str(error))
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise Invalid(("body", int(at[1]) if at else len(said)), f"JSON decode error: {why}", "json_invalid") from None


MISFITS = (
    (r"Object missing required field `(?P<field>.+)`", "missing", "Field required"),
    (r"Expected `str` of length >= (\d+)", "string_too_short", "String should have at least {} characters"),
    (r"Expected `str` of length <= (\d+)", "string_too_long", "String should have at most {} characters"),
    (r"Expected `str` matching regex", "string_pattern_mismatch", "String should have no control characters"),
    (r"Expected `array` of length >= (\d+)", "too_short", "List should have at least {} items"),
    (r"Expected `array` of length <= (\d+)", "too_long", "List should have at most {} items"),
    (r"Expected `(?:int|float)` >= ([\d.]+)", "greater_than_equal", "Input should be greater than or equal to {}"),
    (r"Expected `(?:int|float)` <= ([\d.]+)", "less_than_equal", "Input should be less than or equal to {}"),
    (r"Expected `str", "string_type", "Input should be a valid string"),
    (r"Expected `int", "int_type", "Input should be a valid integer"),
    (r"Expected `float|Number out of range", "float_type", "Input should be a valid number"),
    (r"Expected `bool", "bool_type", "Input should be a valid boolean"),
    (r"Expected `array", "list_type", "Input should be a valid list"),
    (r"Expected `object", "model_attributes_type", "Input should be a valid dictionary"),
)
"""What msgspec says → Pydantic's type and words: https://docs.pydantic.dev/latest/errors/validation_errors/"""


def _misfit(said: str) -> Invalid:
    at = re.search(r" - at `\$(.*)`$", said)
    where: tuple[str | int, ...] = (
        "body",
        *(int(piece) if piece.isdigit() else piece for piece in re.findall(r"[^.\[\]]+", at[1] if at else "")),
    )
    for pattern, kind, words in MISFITS:
        if found := re.match(pattern, said):
            if field := found.groupdict().get("field"):
                return Invalid((*where, field), words, kind)
            return Invalid(where, words.format(*found.groups()), kind)
    return Invalid(where, said, "value_error")

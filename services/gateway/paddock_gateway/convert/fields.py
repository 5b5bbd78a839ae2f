"""Fields of a request, by type. Null is as good as absent; a wrong type raises Failure, 400, that says where.

`inside` is where the object stands, up to its key: `messages[0].content[2].`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock_gateway.errors import Failure

LEAST, MOST = -(2**31), 2**31 - 1
"""llama-server's numbers are 32 bits wide."""


def an_object(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise wrong(value, "an object", at)
    return value


def object_in(of: Mapping[str, Any], key: str, inside: str = "") -> Mapping[str, Any]:
    """Empty where there is none."""
    value = of.get(key)
    return {} if value is None else an_object(value, inside + key)


def array_in(of: Mapping[str, Any], key: str, inside: str = "") -> list[Any] | None:
    value = of.get(key)
    if value is not None and not isinstance(value, list):
        raise wrong(value, "an array", inside + key)
    return value


def string_in(of: Mapping[str, Any], key: str, inside: str = "", default: str = "") -> str:
    value = of.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise wrong(value, "a string", inside + key)
    return value


def whole_number_in(of: Mapping[str, Any], key: str, inside: str = "") -> int | None:
    """As JSON has one kind of number, 64.0 is whole too."""
    value = number_in(of, key, inside)
    if value is None:
        return None
    if value != value or not LEAST <= value <= MOST or value != int(value):
        raise wrong(value, f"a whole number up to {MOST}", inside + key)
    return int(value)


def number_in(of: Mapping[str, Any], key: str, inside: str = "") -> float | None:
    value = of.get(key)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise wrong(value, "a number", inside + key)


def boolean_in(of: Mapping[str, Any], key: str, inside: str = "") -> bool | None:
    value = of.get(key)
    if value is not None and not isinstance(value, bool):
        raise wrong(value, "true or false", inside + key)
    return value


def wrong(value: Any, expected: str, at: str) -> Failure:
    return Failure(400, f"{at}: expected {expected}, got {_kind(value)}", param=at)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"

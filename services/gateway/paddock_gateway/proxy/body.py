"""The body of a request: read within bounds, looked into no further than needed, and changed in the members that the gateway sets.

Every other member goes on byte for byte: msgspec finds where each begins and ends, without taking it apart. So a body costs its own size
and a little more, whatever it nests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from paddock_gateway.errors import Failure

LARGEST_REST = 1024 * 1024
"""Bytes of members that `Large` does not name. Millions of tiny members would take far more memory than the body."""


MOST_VALUES = 200_000
"""Commas and opening brackets of a body that is taken apart: no conversation that a model has room for has so many, while 32 MiB of `{},`
would take 700 MiB and seconds."""


async def read(request: web.BaseRequest, largest: int, within_s: float) -> bytes:
    """The body, of `largest` bytes at most, unpacked where it came packed. Raises Failure: 413, 408, 400 where it ends early."""
    if (request.content_length or 0) > largest:
        raise _too_large(largest)
    content = request.content
    if content.is_eof() and content.exception() is None:  # it came with the head, as small ones do
        whole = content.read_nowait()
        if len(whole) > largest:
            raise _too_large(largest)
        return whole
    slow = asyncio.get_running_loop().call_later(within_s, content.set_exception, TimeoutError())
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await content.readany():
            size += len(piece)
            if size > largest:
                raise _too_large(largest)
            pieces.append(piece)
    except (TimeoutError, asyncio.TimeoutError):
        raise Failure(408, f"The request did not arrive within {within_s:g} s. Send it again.", "too_slow") from None
    except (web.HTTPException, web.RequestPayloadError) as error:
        raise Failure(400, f"The request's body cannot be read: {_line(error)}", "bad_body") from None
    finally:
        slow.cancel()
    return b"".join(pieces)


def _too_large(largest: int) -> Failure:
    words = f"{largest >> 20} MiB" if largest >> 20 else f"{largest >> 10} KiB"
    return Failure(413, f"The request is larger than {words}, which is the most that is taken here.", "too_large")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


NONE = Raw(b"")


class Large(Struct):
    """Members that may be large."""

    model: Raw = NONE
    messages: Raw = NONE
    system: Raw = NONE
    instructions: Raw = NONE
    input: Raw = NONE
    prompt: Raw = NONE
    content: Raw = NONE
    tokens: Raw = NONE
    query: Raw = NONE
    documents: Raw = NONE
    texts: Raw = NONE
    tools: Raw = NONE
    functions: Raw = NONE
    response_format: Raw = NONE
    json_schema: Raw = NONE
    grammar: Raw = NONE
    logit_bias: Raw = NONE
    input_prefix: Raw = NONE
    input_suffix: Raw = NONE
    input_extra: Raw = NONE


_LARGE = msgspec.json.Decoder(Large)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def _of_large_members(raw: bytes) -> int:
    """Bytes."""
    large = _LARGE.decode(raw)
    return sum(len(memoryview(getattr(large, name))) for name in Large.__struct_fields__)


class Body:
    """A JSON object. `raw` is as it came, `members` is name → the bytes of the value."""

    __slots__ = ("members", "raw")

    def __init__(self, raw: bytes) -> None:
        """Raises Failure: 400 with the place where it is no JSON, no UTF-8, or no object."""
        self.raw = raw
        if not raw.isascii():
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                raise Failure(400, f"The request is no UTF-8 at {_place(raw, error.start)}.", "bad_utf8") from None
        try:
            if len(raw) > LARGEST_REST and len(raw) - _of_large_members(raw) > LARGEST_REST:
                raise Failure(413, "The request's smaller fields take more than 1 MiB together.", "too_large")
            self.members: dict[str, Raw] = _MEMBERS.decode(raw)
        except RecursionError:
            raise Failure(400, "The request nests too deeply.", "too_deep") from None
        except msgspec.ValidationError as error:
            raise Failure(400, f"The request is to be a JSON object: {error}.", "no_object") from None
        except msgspec.DecodeError as error:
            raise Failure(400, f"The request is no valid JSON: {_located(raw, error)}.", "bad_json") from None

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def bytes_of(self, name: str) -> bytes:
        """Empty where there is no such member."""
        found = self.members.get(name)
        return b"" if found is None else bytes(found)

    def text(self, name: str) -> str | None:
        """None where it is not there or null. Raises Failure where it is no string."""
        found: str | None = self._typed(name, str, "a string")
        return found

    def flag(self, name: str) -> bool:
        """False where it is not there or null. Raises Failure where it is neither true nor false."""
        return bool(self._typed(name, bool, "true or false"))

    def number(self, name: str) -> int | None:
        """None where it is not there or no whole number: the back end says what is wrong with it."""
        found = self.members.get(name)
        if found is None or len(memoryview(found)) > 20:
            return None
        try:
            return msgspec.json.decode(found, type=int)
        except msgspec.MsgspecError:
            return None

    def _typed(self, name: str, kind: type[Any], words: str) -> Any:
        found = self.members.get(name)
        if found is None or bytes(memoryview(found)[:5]) == b"null":
            return None
        try:
            return msgspec.json.decode(found, type=kind)
        except (msgspec.MsgspecError, RecursionError):
            raise Failure(400, f'"{name}" is to be {words}.', "bad_field", param=name) from None

    def parsed(self) -> dict[str, Any]:
        """All of it, for what has to be converted. Raises Failure: 413 where it would take far more memory than its bytes."""
        if sum(self.raw.count(mark) for mark in (b",", b"{", b"[")) > MOST_VALUES:
            raise Failure(413, f"The request has more than {MOST_VALUES} commas and brackets, which is the most here.", "too_large")
        try:
            said: dict[str, Any] = msgspec.json.decode(self.raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Failure(400, f"The request is no valid JSON: {error}.", "bad_json") from None
        return said

    def changed(self, changes: Mapping[str, Any]) -> bytes:
        """With these members set, or left out where the change is `REMOVED`. What came where nothing changes."""
        members = self.members
        wanted = {name: REMOVED if value is REMOVED else msgspec.json.encode(value) for name, value in changes.items()}
        if all(bytes(members[name]) == value if name in members else value is REMOVED for name, value in wanted.items()):
            return self.raw
        pieces: list[bytes | memoryview] = []
        for name, raw in {**members, **wanted}.items():
            if raw is not REMOVED:
                pieces += [b"," if pieces else b"{", msgspec.json.encode(name), b":", memoryview(raw)]
        return b"".join([*pieces, b"}"]) if pieces else b"{}"


REMOVED = object()


def _place(raw: bytes, at: int) -> str:
    line = raw.count(b"\n", 0, at) + 1
    column = at - (raw.rfind(b"\n", 0, at) + 1) + 1
    return f"line {line}, column {column}"


def _located(raw: bytes, error: msgspec.DecodeError) -> str:
    """`trailing comma in array (line 1, column 11)`"""
    what, _, place = str(error).removeprefix("JSON is malformed: ").partition(" (byte ")
    at = int(place.rstrip(")")) if place else len(raw)
    return f"{what[:1].lower()}{what[1:]} ({_place(raw, at)})"

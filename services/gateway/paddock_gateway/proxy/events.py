"""Server-sent events as llama-server writes them: split into whole ones, looked at no further than their first bytes and their counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import orjson

from paddock_gateway.contract import Used
from paddock_gateway.proxy.routes import Kind

T = TypeVar("T")

LARGEST_EVENT = 4 * 1024 * 1024
"""Bytes, besides what the request itself has: /completion repeats the prompt in its last event."""


DONE = b"data: [DONE]\n\n"


class TooLarge(Exception):
    """An event that does not end."""


class Splitter:
    """Gives whole events, each with the empty line that ends it, as many as have come, in one piece."""

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._largest = largest

    def feed(self, chunk: bytes) -> bytes:
        """Raises TooLarge."""
        if not self._pieces and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            return chunk
        if b"\n\n" not in chunk and b"\r" not in chunk and chunk[:1] != b"\n":
            self._keep(chunk)  # joined once, when its end has come: an event may have come in a thousand pieces
            return b""
        data = b"".join([*self._pieces, chunk])
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        ends = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        self._pieces, self._size = [], 0
        self._keep(data[ends:])
        return data[:ends]

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._largest:
                raise TooLarge


def split(batch: bytes) -> list[bytes]:
    """A batch of whole events into each."""
    return [event + b"\n\n" for event in batch.split(b"\n\n")[:-1]]


def data_of(event: bytes) -> bytes:
    """What follows `data:`; empty for a comment."""
    if event.startswith(b"data: "):
        return event[6:-2]
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def parsed(event: bytes) -> dict[str, Any] | None:
    """None for a comment, for `[DONE]`, and for what is no JSON object."""
    data = data_of(event)
    if not data.startswith(b"{"):
        return None
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def decoded(batch: bytes, decode: Callable[[bytes], list[T]], wrong: type[Exception]) -> list[T]:
    """The JSON objects of a batch, taken apart at once where all are as llama-server writes them. `decode` takes a list of objects; what
    it finds `wrong` is left out."""
    data = batch[: -len(DONE)] if batch.endswith(DONE) else batch
    if data.startswith(b"data: {"):
        with suppress(wrong):
            return decode(b"[" + data[6:-2].replace(b"\n\ndata: ", b",") + b"]")  # no text in JSON has a line end
    found: list[T] = []
    for event in split(batch):
        if (said := data_of(event)).startswith(b"{"):
            with suppress(wrong):
                found += decode(b"[" + said + b"]")
    return found


def objects(batch: bytes) -> list[dict[str, Any]]:
    return [said for said in decoded(batch, orjson.loads, orjson.JSONDecodeError) if isinstance(said, dict)]


def is_event(event: bytes) -> bool:
    """Whether it is one of llama-server's, or a comment: its error page is not."""
    return event.startswith((b"data:", b"event:", b":"))


_ERRORS = (b'data: {"error":', b"event: error")
_ENDS: dict[Kind, tuple[bytes, ...]] = {
    "chat": (b"data: [DONE]",),
    "completion": (b"data: [DONE]",),
    "transcription": (b"data: [DONE]",),
    "responses": (b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
}
_COUNTS = (b'"usage":', b'"timings":')
_MARKS: dict[Kind, tuple[bytes, ...]] = {
    "native": (*_ERRORS, *_COUNTS, b'"stop":true'),
    **{kind: (*_ERRORS, *_COUNTS, *begins) for kind, begins in _ENDS.items()},
}


def marked(kind: Kind, batch: bytes) -> list[bytes]:
    """All from the first on that may count, end or fail: few of a stream, in which most are a piece of text."""
    found = [at for mark in _MARKS.get(kind, (*_ERRORS, *_COUNTS)) if (at := batch.find(mark)) >= 0]
    if not found:
        return []
    before = batch.rfind(b"\n\n", 0, min(found))
    return split(batch[before + 2 :] if before >= 0 else batch)


def is_error(event: bytes) -> bool:
    return event.startswith(_ERRORS)


def ends(kind: Kind, event: bytes) -> bool:
    """Whether a whole stream may end with it. llama-server's own format has a last event for each prompt, and no other sign."""
    if kind == "native":
        return b'"stop":true' in event
    return event.startswith(_ENDS.get(kind, ()))


def has_content(batch: bytes) -> bool:
    """Whether the first token may be in it: no comment, no count of the prompt's progress, no opening of a response."""
    return any(_has_content(event) for event in split(batch))


def _has_content(event: bytes) -> bool:
    if event.startswith(b":"):
        return False
    return b'"prompt_progress":' not in event and not event.startswith((b"event: response.created", b"event: response.in_progress"))


class Unprogressed:
    """Takes out how far llama-server has read the prompt, which the gateway asked for: what is left is what the caller's own request would
    have been answered. A response is opened by its first count (to_json_oaicompat_resp in tools/server/server-task.cpp)."""

    def __init__(self, kind: Kind) -> None:
        self._kind, self._opened = kind, False

    def __call__(self, batch: bytes) -> bytes:
        return batch if b'"prompt_progress":' not in batch else b"".join([self._without(event) for event in split(batch)])

    def _without(self, event: bytes) -> bytes:
        if b'"prompt_progress":' not in event:
            return event
        if self._kind != "responses" or self._opened:
            return b""
        self._opened = True
        said = parsed(event) or {}
        said.pop("prompt_progress", None)
        return b"event: response.in_progress\ndata: " + orjson.dumps(said) + b"\n\n"


class Tally:
    """What a stream took. Only events that end an answer are read: one for each prompt and answer, however many."""

    def __init__(self, kind: Kind) -> None:
        # several answers of a chat share one prompt; completions have one each
        self._of_prompts = sum if kind in ("completion", "native") else max
        self._of_usage: Used | None = None
        self._of_timings: Used | None = None

    def hear(self, event: bytes) -> None:
        counts = (b'"usage":' in event and b'"usage":null' not in event) or (
            b'"timings":' in event and (b'"finish_reason":"' in event or b'"stop":true' in event)
        )
        if not counts:
            return
        answer = parsed(event) or {}
        if usage := _usage(answer):
            self._of_usage = self._with(self._of_usage, usage)
        elif timings := used_of(answer):
            self._of_timings = self._with(self._of_timings, timings)

    def used(self) -> Used | None:
        """None where the back end has not said. One that has both, in two events, says the same twice."""
        return self._of_usage or self._of_timings

    def _with(self, before: Used | None, more: Used) -> Used:
        if before is None:
            return more
        return Used(
            self._of_prompts((before.prompt_tokens, more.prompt_tokens)),
            self._of_prompts((before.cached_tokens, more.cached_tokens)),
            before.completion_tokens + more.completion_tokens,
        )


def used_of(answer: dict[str, Any]) -> Used | None:
    """Of an answer or a last event, in any of llama-server's formats."""
    if (usage := _usage(answer)) is not None:
        return usage
    timings = answer.get("timings")
    if not isinstance(timings, dict):
        return None
    cached = _count(timings, "cache_n")
    return Used(cached + _count(timings, "prompt_n"), cached, _count(timings, "predicted_n"))


def _usage(answer: dict[str, Any]) -> Used | None:
    inside = answer.get("response")
    usage = answer.get("usage") or (inside.get("usage") if isinstance(inside, dict) else None)
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else 0
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    return Used(prompt, cached, _count(usage, "completion_tokens") or _count(usage, "output_tokens"))


def _count(counts: dict[str, Any], name: str) -> int:
    found = counts.get(name)
    return found if isinstance(found, int) and found >= 0 else 0


_COUNTED = re.compile(rb'"(?:usage|timings)": ?\{[^{}]{0,2048}(?:\{[^{}]{0,1024}\}[^{}]{0,2048}){0,4}\}')


def used_in(answer: bytes) -> Used | None:
    """Of an unstreamed answer, which may have megabytes of vectors: its counts stand near its beginning or its end."""
    ends = answer if len(answer) <= 16384 else answer[:8192] + answer[-8192:]
    found = _COUNTED.search(ends)
    try:
        return used_of(orjson.loads(b"{" + found[0] + b"}")) if found else None
    except orjson.JSONDecodeError:
        return None

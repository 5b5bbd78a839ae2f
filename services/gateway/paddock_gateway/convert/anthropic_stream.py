"""Chunks of a chat completion as the events of Anthropic's messages.

Each event has the bytes that llama-server 0.3.36 writes: `server_task_result_cmpl_partial::to_json_anthropic`,
`server_task_result_cmpl_final::to_json_anthropic_stream` (tools/server/server-task.cpp) and `format_anthropic_sse` (server-common.cpp).
As there, all blocks are closed at the end.

Where it differs: the answer always begins with `message_start`, which a first token that is half a character costs llama-server; a block is
opened once, where its last result opens each block anew that it adds to; an answer that goes on with the caller's last message has that
as a delta of its own, before the first token's; and an error has Anthropic's shape, where llama-server has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from paddock_gateway.errors import Failure, anthropic_error

STOP_REASONS: Mapping[str, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
"""`finish_reason` → `stop_reason`."""

START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class Stream:
    """A paddock_gateway.convert.converter.Stream. The request has to ask for paddock_gateway.convert.anthropic.TELLING."""

    def __init__(self) -> None:
        self._begun = self._ended = False
        self._thinking = self._text = 0
        """1 once there is such a block: what it adds to the index of those after it."""
        self._tools: set[int] = set()
        self._prompt_tokens = self._cached_tokens = self._output_tokens = 0
        self._stop_reason: str | None = None
        self._stop_sequence: str | None = None

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        if self._ended:
            return b""
        try:
            if "error" in chunk:
                raise _failure(chunk["error"])
            return b"".join(self._events(chunk))
        except (LookupError, TypeError, AttributeError) as error:
            raise Failure(502, "The back end's answer is no chat completion.", "bad_answer") from error

    def end(self) -> bytes:
        if self._ended:
            return b""
        if self._stop_reason is None:
            return self.fail(Failure(502, "The back end broke off its answer.", "bad_answer"))
        return b"".join(self._last())

    def fail(self, failure: Failure) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        return _event(b"error", anthropic_error(failure))

    def _events(self, chunk: Mapping[str, Any]) -> Iterator[bytes]:
        progress = chunk.get("prompt_progress")
        if progress:
            self._prompt_tokens, self._cached_tokens = progress["total"], progress["cache"]
        if choices := chunk["choices"]:
            delta, reason = choices[0]["delta"], choices[0].get("finish_reason")
            if not self._begun and (reason is not None or not _only_role(delta) or (self._prompt_tokens and not progress)):
                yield self._start(chunk)
            if text := delta.get("reasoning_content"):
                yield from self._thought(text)
            if text := delta.get("content"):
                yield from self._spoken(text)
            for call in delta.get("tool_calls") or ():
                yield from self._called(call)
            if reason is not None:
                self._stop_reason = STOP_REASONS[reason]
        if told := chunk.get("__verbose"):
            self._stop_sequence = told.get("stopping_word") or None
        if usage := chunk.get("usage"):
            self._output_tokens = usage["completion_tokens"]
            if self._stop_reason is not None:
                yield from self._last()

    def _start(self, chunk: Mapping[str, Any]) -> bytes:
        self._begun = True
        usage = {
            "cache_read_input_tokens": self._cached_tokens,
            "input_tokens": self._prompt_tokens - self._cached_tokens,
            "output_tokens": 0,
        }
        message = {
            "id": chunk["id"],
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": chunk["model"],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event(b"message_start", {"type": "message_start", "message": message})

    def _thought(self, text: str) -> Iterator[bytes]:
        if not self._thinking:
            self._thinking = 1
            yield START % (0, b'{"type":"thinking","thinking":""}')
        yield DELTA % (0, b"thinking_delta", b"thinking", orjson.dumps(text))

    def _spoken(self, text: str) -> Iterator[bytes]:
        if not self._text:
            self._text = 1
            yield START % (self._thinking, b'{"type":"text","text":""}')
        yield DELTA % (self._thinking, b"text_delta", b"text", orjson.dumps(text))

    def _called(self, call: Mapping[str, Any]) -> Iterator[bytes]:
        number, function = call["index"], call.get("function", {})
        index = self._thinking + self._text + number
        if number not in self._tools:
            self._tools.add(number)
            block = {"type": "tool_use", "id": call.get("id", ""), "name": function.get("name", "")}
            yield START % (index, orjson.dumps(block))
        if arguments := function.get("arguments"):
            yield DELTA % (index, b"input_json_delta", b"partial_json", orjson.dumps(arguments))

    def _last(self) -> Iterator[bytes]:
        self._ended = True
        if self._thinking:
            yield DELTA % (0, b"signature_delta", b"signature", b'""')
            yield STOP % 0
        if self._text:
            yield STOP % self._thinking
        for number in sorted(self._tools):
            yield STOP % (self._thinking + self._text + number)
        delta = {"stop_reason": self._stop_reason, "stop_sequence": self._stop_sequence}
        usage = {"output_tokens": self._output_tokens}
        yield _event(b"message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        yield MESSAGE_STOP


def _only_role(delta: Mapping[str, Any]) -> bool:
    """Such a delta comes with each progress of the prompt, and with the first token. It is not the latter's before any progress is told."""
    return delta.keys() == {"role", "content"} and delta["content"] is None


def _event(name: bytes, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(data))


def _failure(error: Any) -> Failure:
    """What llama-server says in the middle of a stream: `{"code": 500, "message": …, "type": "server_error"}`."""
    told = error if isinstance(error, dict) else {}
    status, message = told.get("code"), told.get("message")
    if not isinstance(status, int) or not 400 <= status < 600:
        status = 502
    return Failure(status, message if isinstance(message, str) else "The back end failed.")

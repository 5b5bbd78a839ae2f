"""A back end that answers at once, so that only what stands before it takes time: `python -m tests.bench.instant PORT SLOTS`.

It knows what a gateway asks of a llama-server, and gives the same answer to every chat: 32 events where a stream was asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

EVENTS = 32
HEAD = {"id": "chatcmpl-1", "created": 1700000000, "model": "tiny"}
USAGE = {"prompt_tokens": 12, "completion_tokens": EVENTS, "total_tokens": 12 + EVENTS}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word " * EVENTS}, "finish_reason": "stop"}


def _event(said: object) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


def _chunk(delta: object, finish: str | None = None) -> bytes:
    return _event({**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


STREAM = (
    _chunk({"role": "assistant", "content": None})
    + b"".join(_chunk({"content": "word "}) for _ in range(EVENTS))
    + _chunk({}, "stop")
    + _event({**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    + b"data: [DONE]\n\n"
)
PLAIN = json.dumps({**HEAD, "object": "chat.completion", "choices": [CHOICE], "usage": USAGE}).encode()


def _answer(content: bytes, kind: bytes = b"application/json", connection: bytes = b"keep-alive") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: %b\r\n\r\n"
    return head % (kind, len(content), connection) + content


class Instant(asyncio.Protocol):
    slots = 1

    def __init__(self) -> None:
        self.came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own

    def data_received(self, data: bytes) -> None:
        self.came += data
        while (ends := self.came.find(b"\r\n\r\n")) >= 0:
            head = self.came[:ends].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.came) < ends + 4 + length:
                return
            body, self.came = self.came[ends + 4 : ends + 4 + length], self.came[ends + 4 + length :]
            self.answer(head.split(b" ", 2)[1], body, closes=b"connection: close" in head)

    def answer(self, path: bytes, body: bytes, *, closes: bool) -> None:
        if path == b"/props":
            content = json.dumps({"total_slots": self.slots, "default_generation_settings": {"n_ctx": 4096}}).encode()
        elif path == b"/slots":
            content = json.dumps([{"id": slot, "is_processing": False} for slot in range(self.slots)]).encode()
        elif path.endswith(b"/models"):
            content = b'{"object":"list","data":[{"id":"tiny","object":"model"}]}'
        elif path == b"/health":
            content = b'{"status":"ok"}'
        elif b'"stream":true' in body.replace(b" ", b""):
            self.transport.write(_answer(STREAM, b"text/event-stream", b"close" if closes else b"keep-alive"))
            if closes:
                self.transport.close()
            return
        else:
            content = PLAIN
        self.transport.write(_answer(content))
        if closes:
            self.transport.close()


async def serve(port: int, slots: int) -> None:
    Instant.slots = slots
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))

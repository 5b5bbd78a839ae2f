"""Back ends that do not do what a llama-server does, each at a port of its own, in a thread of the test."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

Writer = asyncio.StreamWriter
Answer = Callable[[Writer], Awaitable[None]]

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(**said: object) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


def delta(content: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "finish_reason": more.pop("finish_reason", None), "delta": {"content": content} if content else {}}
    return event(id="chatcmpl-1", object="chat.completion.chunk", created=1, model="tiny", choices=[choice], **more)


USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
END = b"data: [DONE]\n\n"
HELLO = delta("Hello") + delta(finish_reason="stop") + event(id="chatcmpl-1", choices=[], usage=USAGE) + END


def piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def says(*sent: bytes) -> Answer:
    """These bytes, and the connection is closed. b"" is a pause: what comes behind it comes by itself."""

    async def answer(writer: Writer) -> None:
        for each in sent:
            if not each:
                await asyncio.sleep(0.1)
            writer.write(each)
            await writer.drain()

    return answer


def goes_on(begin: bytes, sent: bytes) -> Answer:
    """Never ends."""

    async def answer(writer: Writer) -> None:
        writer.write(begin)
        while True:
            writer.write(sent)
            await writer.drain()

    return answer


def hangs(*sent: bytes) -> Answer:
    async def answer(writer: Writer) -> None:
        await says(*sent)(writer)
        await asyncio.sleep(3600)

    return answer


def html(status: str) -> Answer:
    page = b"<!doctype html><title>It works</title>"
    return says(b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(page), page))


def packed(kind: str) -> Answer:
    body = gzip.compress(HELLO if kind == "text/event-stream" else b"{}")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    return says(head.encode() + body)


FAIL: Mapping[str, tuple[Answer, str]] = {
    "html": (html("200 OK"), "something else than JSON"),
    "html-500": (html("500 Oops"), "answered with status 500"),
    "html-404": (html("404 Not Found"), "answered with status 404"),
    "status-999": (html("999 What"), "status 999"),
    "closes": (says(), "broke off its answer"),
    "half-a-head": (says(b"HTTP/1.1 200 O"), "broke off its answer"),
    "no-http": (says(b"SSH-2.0-OpenSSH_9.2\r\n" * 100), "does not speak HTTP"),
    "old-http": (says(b"{}\n"), "does not speak HTTP"),
    "endless-headers": (goes_on(b"HTTP/1.1 200 OK\r\n", b"X-More: more\r\n" * 1000), "does not speak HTTP"),
    "endless-header": (goes_on(b"HTTP/1.1 200 OK\r\nX-More: ", b"x" * 65536), "does not speak HTTP"),
    "endless-status": (goes_on(b"HTTP/1.1 200 ", b"x" * 65536), "does not speak HTTP"),
    "nul-header": (says(b"HTTP/1.1 200 OK\r\nX-A: \0\r\n\r\n{}"), "does not speak HTTP"),
    "two-lengths": (
        says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        "does not speak HTTP",
    ),
    "too-short": (says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{}"), "broke off its answer"),
    "bad-chunk": (says(CHUNKED, b"zz\r\n"), "broke off its answer"),
    "bad-chunk-later": (says(CHUNKED, b"", b"zz\r\n"), "broke off its answer"),
    "empty-stream": (says(EVENTS), "ended its answer before it began"),
    "comments": (says(EVENTS, b":\n\n" * 1000), "ended its answer before it began"),
    "packed": (packed("application/json"), "something else than JSON"),
    "packed-stream": (packed("text/event-stream"), "ended its answer before it began"),
    "garbage": (says(EVENTS, bytes(range(256)) * 64 + b"\n\n"), "something else than events"),
    "endless-event": (goes_on(EVENTS, b"data: " + b"x" * 65536), "an event without an end"),
    "endless-error": (goes_on(b"HTTP/1.1 400 No\r\nContent-Type: application/json\r\n\r\n", b"x" * 65536), "too large"),
    "endless-json": (goes_on(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"{" * 65536), "too large"),
    "switches": (says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), ""),
    "redirects-301": (html("301 Moved\r\nLocation: /elsewhere"), "answered with status 301"),
    "redirects-307": (html("307 Moved\r\nLocation: /elsewhere"), "answered with status 307"),
    "refuses-the-key": (html("401 Unauthorized"), "refuses the gateway's key"),
}
"""Name → what it does, and what the gateway says of it, to one who wants a stream as to one who does not."""

PASS: Mapping[str, Answer] = {
    "continues": says(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + EVENTS, HELLO),
    "hints": says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + EVENTS, HELLO),
    "trailers": says(CHUNKED, piece(HELLO), b"0\r\nX-Sum: 1\r\n\r\n"),
    "chunk-extensions": says(CHUNKED, b"%x;a=b\r\n%s\r\n" % (len(HELLO), HELLO), b"0\r\n\r\n"),
    "many-pieces": says(EVENTS, *(HELLO[at : at + 1] for at in range(len(HELLO)))),
    "carriage-returns": says(EVENTS, HELLO.replace(b"\n", b"\r\n")),
    "large-counts": says(
        EVENTS,
        delta("Hello") + delta(finish_reason="stop"),
        event(choices=[], usage={"prompt_tokens": 2**64 - 1, "completion_tokens": 2**63, "total_tokens": -1}) + END,
    ),
    "odd-counts": says(
        EVENTS,
        delta("Hello") + delta(finish_reason="stop", timings=[]),
        event(choices=[], usage={**USAGE, "total_tokens": "many", "of": [1]}) + END,
    ),
}
"""Odd, and an answer all the same: Hello."""

GARBAGE: Mapping[str, Answer] = {
    "no-json": says(EVENTS, b"data: {nothing}\n\n" * 100 + END),
    "choices-of-numbers": says(EVENTS, event(choices=[1]) + END),
    "choices-of-null": says(EVENTS, event(choices=[None]) + END),
    "choices-a-text": says(EVENTS, event(choices="none") + END),
    "delta-of-null": says(EVENTS, event(choices=[{"index": 0, "delta": None}]) + END),
    "delta-a-list": says(EVENTS, event(choices=[{"index": 0, "delta": [1]}]) + END),
    "content-a-number": says(EVENTS, event(choices=[{"index": 0, "delta": {"content": 7}}]) + END),
    "no-index": says(EVENTS, event(choices=[{"delta": {"content": "x"}}]) + END),
    "calls-a-number": says(EVENTS, event(choices=[{"index": 0, "delta": {"tool_calls": 7}}]) + END),
    "calls-from-afar": says(EVENTS, event(choices=[{"index": 0, "delta": {"tool_calls": [{"index": 10**9}]}}]) + END),
    "usage-a-list": says(EVENTS, event(choices=[], usage=[1, 2]) + END),
    "usage-a-text": says(EVENTS, event(choices=[], usage={"prompt_tokens": "x", "completion_tokens": None}) + END),
    "odd-error": says(EVENTS, event(error="none")),
    "odd-code": says(EVENTS, event(error={"code": [], "message": {}})),
    "nested": says(EVENTS, b"data: " + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n\n" + END),
    "broken-off": says(CHUNKED, piece(delta("Hello"))),
}
"""Events that make no answer, or break off."""


HANGING: Mapping[str, Answer] = {
    "silent": hangs(),
    "half": hangs(EVENTS, delta("Hello")),
    "pours": goes_on(EVENTS, delta("x" * 65536)),
}


@dataclass
class Hostile:
    """`urls` is name → URL; `paths` are those that were asked for."""

    urls: dict[str, str] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    open: int = 0
    """Requests that are being answered."""

    async def serve(self, answer: Answer, reader: asyncio.StreamReader, writer: Writer) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.paths.add(head.split()[1])
            if head.startswith("GET "):
                body = json.dumps({"total_slots": 4, "data": []}).encode()
                await says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))(writer)
            else:
                self.open += 1
                going, leaving = asyncio.ensure_future(answer(writer)), asyncio.ensure_future(_left(reader))
                try:
                    await asyncio.wait({going, leaving}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self.open -= 1
                    going.cancel()
                    leaving.cancel()
                    await asyncio.gather(going, leaving, return_exceptions=True)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 1)  # a close with bytes unread would be a reset

    async def open_all(self) -> None:
        answers = {name: answer for name, (answer, _) in FAIL.items()} | {**PASS, **GARBAGE, **HANGING}
        for name, answer in answers.items():
            server = await asyncio.start_server(partial(self.serve, answer), "127.0.0.1", 0)
            self.urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _left(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


@contextmanager
def hostile() -> Iterator[Hostile]:
    found, loop = Hostile(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(found.open_all(), loop).result(10)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

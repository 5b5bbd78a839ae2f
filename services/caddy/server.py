"""The HTTP endpoint: what is asked, which llama-server is asked for it, and what of its answer goes back."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlencode

from . import answers
from .several import each_of
from .upstream import Unreachable, asked

HANDED_OVER = 3
"""The file descriptor of the socket that systemd opened (sd_listen_fds(3))."""
CALLS, STREAMS = 64, 48
"""At a time, and of these the most that follow events: a page that is open is one. Who comes beyond that is hung up on, or told so."""
REQUEST_S = 10
ANSWER_S = 60
ANSWER_BYTES, EVENT_BYTES = 8 << 20, 1 << 20

SHOWN: dict[str, Callable[[Any], Any]] = {
    "/models": answers.models,
    "/v1/models": answers.models,
    "/props": answers.props,
}
EVENTS = "/models/sse"


class Refused(Exception):
    """What a llama-server says that shows no events."""

    def __init__(self, status: int, said: Any) -> None:
        super().__init__(status)
        self.status, self.said = status, said


def main() -> None:
    Calls(socket.socket(fileno=HANDED_OVER)).serve_forever()


class Calls(ThreadingMixIn, UnixStreamServer):
    """A thread a call, and no more of them than can be borne."""

    daemon_threads = True
    request_queue_size = CALLS

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), Call, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.room, self.streams = threading.BoundedSemaphore(CALLS), threading.BoundedSemaphore(STREAMS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(f"<4>a call broke off: {type(sys.exc_info()[1]).__name__}", flush=True)


class Call(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection carries one, and is closed."""

    server: Calls
    server_version, sys_version = "paddock-model-list", ""
    timeout = REQUEST_S

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        try:
            if path == EVENTS:
                self._stream_in_its_turn()
            elif path in SHOWN:
                self._send(*self._shown(path, query))
            else:
                self.send_error(404, "there is no such list")
        except (Unreachable, OSError, HTTPException, ValueError, RecursionError) as error:
            print(f"<4>{path}: {type(error).__name__}: {str(error)[:500]!r}", flush=True)
            self.send_error(502, "the server does not answer, or not as llama-server does")

    do_HEAD = do_GET

    def _shown(self, path: str, query: str) -> tuple[int, Any]:
        """Of several servers all models, and the properties that the first of them says that has the model."""
        model = parse_qs(query).get("model", [])[:1] if path == "/props" else []
        # Another model's place in memory is not to be taken by who looks.
        onward = f"{path}?{urlencode({'model': model[0], 'autoload': 'false'})}" if model else path
        said = each_of(self._upstreams, lambda endpoint: self._said(endpoint, path, onward))
        whole = [found for status, found in said if status == 200]
        if not whole:
            return said[0]
        return 200, answers.together(whole) if SHOWN[path] is answers.models else whole[0]

    def _said(self, endpoint: str, path: str, onward: str) -> tuple[int, Any]:
        with asked(endpoint, onward, self._credentials, ANSWER_S) as (_, answer):
            data = answer.read(ANSWER_BYTES + 1)
            if len(data) > ANSWER_BYTES:
                raise ValueError
            found = json.loads(data)
            return answer.status, SHOWN[path](found) if answer.status == 200 else answers.error(found)

    def _stream_in_its_turn(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            self.send_error(503, "too many follow what happens to the models: ask again later")
            return
        try:
            self._stream()
        finally:
            self.server.streams.release()

    def _stream(self) -> None:
        """Of several servers what happens at any of them. It ends with the first that ends: its reader comes again, and finds who is up."""
        self._writing, self._followed, self._over = threading.Lock(), list[socket.socket](), False
        try:
            each_of(self._upstreams, self._follow)
        except Refused as refused:
            self._send(refused.status, refused.said)

    def _follow(self, endpoint: str) -> None:
        with asked(endpoint, EVENTS, self._credentials, None) as (upstream, answer):
            if answer.status != 200:
                raise Refused(answer.status, answers.error(json.loads(answer.read(EVENT_BYTES))))
            with self._writing:
                if self._over:  # it took until after the others had ended, or their reader had left
                    return
                if not self._followed:
                    self._head(200, "text/event-stream")
                    threading.Thread(target=self._until_gone, daemon=True).start()
                self._followed.append(upstream)
            with suppress(OSError, HTTPException, ValueError):
                while self.command != "HEAD" and (line := answer.readline(EVENT_BYTES)):
                    if line.startswith(b"data:"):
                        event = json.dumps(answers.event(json.loads(line[5:]))).encode()
                        with self._writing:
                            self.wfile.write(b"data: " + event + b"\n\n")
            self._end()

    def _until_gone(self) -> None:
        """Ends the streams when their reader has left: a server that has nothing to tell would not notice."""
        with suppress(OSError):
            self.connection.settimeout(None)
            while self.connection.recv(4096):
                pass
        self._end()

    def _end(self) -> None:
        with self._writing:
            self._over = True
            for each in self._followed:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @property
    def _upstreams(self) -> list[str]:
        return [each.strip() for each in self.headers.get("X-Paddock-Upstream", "").split(",")]

    @property
    def _credentials(self) -> dict[str, str]:
        return {name: self.headers[name] for name in ("Authorization", "X-Api-Key") if name in self.headers}

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._send(code, {"error": {"message": message or "this is no request", "type": "api_error", "param": None, "code": None}})

    def _send(self, status: int, said: Any) -> None:
        data = json.dumps(said).encode()
        self._head(status, "application/json", len(data))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, kind: str, length: int | None = None) -> None:
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Caddy's log has every request."""

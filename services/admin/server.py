"""The HTTP endpoint: who is answered, what is a request, and the way to each action."""

from __future__ import annotations

import hmac
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .actions import Admin
from .answers import ErrorAnswer, Refusal
from .configuration import ConfigurationError, configuration
from .presets import unfinished

PREFIX = "/paddock/admin"
HANDED_OVER = 3
"""The file descriptor of the first socket that systemd opened."""
CALLS = 16
"""At a time: who comes beyond that is hung up on."""
REQUEST_S = 10
"""For all of a request to arrive."""
BODY_BYTES = 4096

SHORTEST_KEY = 16


def main() -> None:
    try:
        here = configuration(Path(sys.argv[1]))
        key = here.key.read_text(encoding="utf-8").strip()
    except ConfigurationError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    if len(key) < SHORTEST_KEY:
        sys.exit(f"{here.key} has no key in it: `paddock up` makes one")
    admin = Admin(here.servers, here.presets, os.environ.pop("LLAMA_API_KEY", ""))  # what it calls is not to inherit the key
    unfinished(admin.presets).unlink(missing_ok=True)  # of one that was killed
    room = threading.BoundedSemaphore(CALLS)
    listening = [Calls(socket.socket(fileno=each), admin, key, room) for each in _handed_over()]
    for each in listening[1:]:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    listening[0].serve_forever()


def _handed_over() -> range:
    """The sockets that systemd has opened (sd_listen_fds(3))."""
    number = os.environ.pop("LISTEN_FDS", "") if os.environ.pop("LISTEN_PID", "") == str(os.getpid()) else ""
    if not number.isdecimal() or not int(number):
        sys.exit("it was given no socket to listen on: `systemctl start paddock-admin.socket` has systemd start it with one")
    return range(HANDED_OVER, HANDED_OVER + int(number))


class Calls(ThreadingHTTPServer):
    """A thread a call, and no more of them on all sockets together than can be borne."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, admin: Admin, key: str, room: threading.BoundedSemaphore) -> None:
        self.admin, self.key, self.room = admin, key.encode(), room
        self.address_family = listener.family
        super().__init__(listener.getsockname(), Call, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

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
        print(f"<4>a call broke off: {sys.exc_info()[1]}", flush=True)


class Call(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: a connection carries one, and is closed."""

    server: Calls
    raw_requestline: bytes
    server_version, sys_version = "paddock-admin", ""
    timeout = REQUEST_S

    def handle(self) -> None:
        self.clock = threading.Timer(REQUEST_S, self._hang_up)  # `timeout` is for each read, of which there can be many
        self.clock.daemon = True
        self.clock.start()
        try:
            super().handle()
        finally:
            self.clock.cancel()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        try:
            status, text, kind = 200, *self._done()
        except Refusal as refused:
            self.send_error(refused.status, str(refused))
            return
        except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
            self.send_error(500, f"{type(error).__name__}: {error}")
            return
        self._send(status, text, kind)

    def _done(self) -> tuple[str, str]:
        """The answer, and what kind of text it is."""
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), b"Bearer " + self.server.key):
            raise Refusal(401, "this endpoint answers the fleet's reverse proxy alone")
        if "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "this endpoint answers no page of the web")
        admin, what = self.server.admin, f"{self.command} {self.path.partition('?')[0]}"
        if what == f"GET {PREFIX}/preset":
            return admin.preset(), "text/plain; charset=utf-8"
        if what not in (f"POST {PREFIX}/ctx", f"POST {PREFIX}/restart"):
            raise Refusal(404, f"there are GET {PREFIX}/preset, POST {PREFIX}/ctx and POST {PREFIX}/restart")
        asked = self._body()
        done = admin.ctx(asked, self.client) if what.endswith("/ctx") else admin.restart()
        return json.dumps(done), "application/json"

    def _body(self) -> dict[str, Any]:
        if self.headers.get("X-Paddock-Request") != "1":
            raise Refusal(403, "a change needs the header X-Paddock-Request: 1, which no form of a web page can send")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(415, "a change is asked for with Content-Type: application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or "Transfer-Encoding" in self.headers:
            raise Refusal(411, "a request needs a Content-Length, and comes in one piece")
        if int(length) > BODY_BYTES:
            raise Refusal(413, f"a request has {BODY_BYTES} bytes at most")
        data = self.rfile.read(int(length))
        self.clock.cancel()
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            raise Refusal(400, "the request is no JSON") from None
        if not isinstance(asked, dict):
            raise Refusal(400, "the request is no JSON object")
        return asked

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        answer: ErrorAnswer = {"error": {"message": message or "this is no request"}}
        self._send(code, json.dumps(answer), "application/json", message or "")

    def _send(self, status: int, text: str, kind: str, why: str = "") -> None:
        command = self.command if re.fullmatch("[A-Z]{1,8}", self.command or "") else "?"
        path = getattr(self, "path", "").removeprefix(PREFIX)
        what = path if path in ("/preset", "/ctx", "/restart") else "?"
        told = why or ("" if kind.startswith("text") else text)
        print(f"<{6 if status < 500 else 4}>{self.client}: {command} {what}: {status} {told[:500]!r}", flush=True)
        data = text.encode()
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if not self.raw_requestline.startswith(b"HEAD "):  # `command` is not set where the rest of the line is no request
            self.wfile.write(data)

    @property
    def client(self) -> str:
        """Who asks, as the reverse proxy says; who does not know the key is nobody."""
        headers = getattr(self, "headers", None) or {}
        knows = hmac.compare_digest(headers.get("Authorization", "").encode(), b"Bearer " + self.server.key)
        name = headers.get("X-Paddock-Client", "") if knows else ""
        return name if re.fullmatch(r"[a-z0-9-]{1,63}", name) else "somebody"

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

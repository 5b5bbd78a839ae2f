"""HTTP on Unix sockets, as a llama-server speaks it and HAProxy before it."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

CSV = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight
answers,main,0,0,{running},2,,9,1,2,,0,,0,0,0,0,{status},1
answers,nobody,0,0,1,1,,9,1,2,,0,,0,0,0,0,no check,1
answers,BACKEND,0,0,2,2,200,9,1,2,0,0,,0,0,0,0,UP,1
"""

Answer = Callable[[str, str, bytes], tuple[int, str]]
"""Method, path and body of a request → the status and the text of its answer."""


class OnUnixSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def answering(path: str, answer: Answer) -> Iterator[None]:
    """Answers on the socket `path`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_request(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "a socket"

    with OnUnixSocket(path, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


@contextmanager
def figures(running: int, status: str) -> Iterator[str]:
    """The path of a socket where HAProxy would say how many are being answered."""
    with (
        TemporaryDirectory() as directory,
        answering(path := f"{directory}/figures.sock", lambda *_: (200, CSV.format(running=running, status=status))),
    ):
        yield path

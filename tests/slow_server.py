"""A server that answers as no server should: slowly, without end, with anything."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def answering(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that has read a request, and then does what a test wants, for each that asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def one(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(1 << 16)
                    send(connection)
                except OSError:
                    pass  # it was hung up on

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


OK = b"HTTP/1.1 200 OK\r\n"


def trickles(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(0.1)

    return send


def endless(head: bytes, piece: bytes = b"x" * 8192) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return send


SLOW = {
    "a status line": trickles(b"", b"H"),
    "a header": trickles(OK + b"X: ", b"x"),
    "headers": trickles(OK, b"X: x\r\n"),
    "a body": trickles(OK + b"Content-Length: 99999\r\n\r\n", b"x"),
    "a body of no length": trickles(OK + b"\r\n", b"x"),
    "chunks": trickles(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "the length of a chunk": trickles(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "a redirect": trickles(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 999\r\n\r\n", b"x"),
}

"""Asks llama-server: one request, whose answer is read whole or as it comes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse

CONNECT_S = 10
BEGIN_S = 60
"""How long an answer may take to begin that may go on for ever."""

ENDPOINT = re.compile(r"\[?([^\]]+?)\]?:([0-9]{1,5})")
SOCKET = re.compile(r"unix/(/[^\s]+)")


class Unreachable(Exception):
    """No llama-server answers. Its words are for the log."""


@contextmanager
def asked(endpoint: str, path: str, headers: dict[str, str], answer_s: float | None) -> Iterator[tuple[socket.socket, HTTPResponse]]:
    """The connection to `ADDRESS:PORT` or `unix//PATH`, and its answer. `answer_s` is how long nothing may come of it, None for ever.

    Raises Unreachable where nobody can be reached there, or where what comes is no HTTP.
    """
    if not (connection := _connection(endpoint)):
        raise Unreachable("no llama-server was named")
    try:
        connection.connect()
        stream = connection.sock  # which the connection forgets where the answer is its last
        stream.settimeout(answer_s or BEGIN_S)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        stream.settimeout(answer_s)
    except (OSError, HTTPException) as error:
        connection.close()
        raise Unreachable(f"{endpoint}: {type(error).__name__}") from None
    try:
        yield stream, answer
    finally:
        with suppress(OSError):
            answer.close()
            connection.close()


def _connection(endpoint: str) -> HTTPConnection | None:
    if found := SOCKET.fullmatch(endpoint):
        return _SocketConnection(found[1])
    found = ENDPOINT.fullmatch(endpoint)
    return HTTPConnection(found[1], int(found[2]), timeout=CONNECT_S) if found else None


class _SocketConnection(HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self.path)

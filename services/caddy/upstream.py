"""Asks llama-server: one request, whose answer is read whole or as it comes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse

CONNECT_S = 10
ENDPOINT = re.compile(r"\[?([^\]]+?)\]?:([0-9]{1,5})")
SOCKET = re.compile(r"unix/(/[^\s]+)")


class Unreachable(Exception):
    """No llama-server answers. Its words are for the log."""


@contextmanager
def asked(endpoints: str, path: str, headers: dict[str, str], answer_s: float | None) -> Iterator[tuple[socket.socket, HTTPResponse]]:
    """The connection to the first of `ADDRESS:PORT,unix//PATH` that can be reached, and its answer. `answer_s` is how long nothing may
    come, None for ever.

    Raises Unreachable where none can, or where what comes is no HTTP.
    """
    why = "no llama-server was named"
    for endpoint in endpoints.split(","):
        if not (connection := _connection(endpoint.strip())):
            continue
        try:
            connection.connect()
            stream = connection.sock  # which the connection forgets where the answer is its last
            stream.settimeout(answer_s)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            why = f"{endpoint}: {type(error).__name__}"
            continue
        try:
            yield stream, answer
        finally:
            with suppress(OSError):
                answer.close()
                connection.close()
        return
    raise Unreachable(why)


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

"""Asks the llama-servers of this host."""

from __future__ import annotations

import json
import pwd
import re
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from .answers import Refusal
from .configuration import Server
from .units import systemctl

ANSWER_S = 120
"""For the router to end a model's process, and for all of an answer."""
ANSWER_BYTES = 16 << 20
HEALTHY_S = 900
"""For servers that were restarted to answer: of a fixed model they read it first."""


def reads_presets(router: Server, api_key: str, model: str, size: int) -> bool:
    """Has the router read its presets again, which ends the model's process.

    False where the model does not have this context then: a llama.cpp that has to be restarted. A router that does not run starts with it.
    """
    try:
        listed = json.loads(ask(router, api_key, "/models?reload=1"))["data"]
        arguments: list[str] = next((each["status"].get("args", []) for each in listed if each["id"] == model), [])
    except OSError:
        return True
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Refusal(500, f"{router.unit} does not answer like a llama-server") from None
    return ("--ctx-size", str(size)) in pairwise(arguments)


def until_healthy(*servers: Server, api_key: str) -> None:
    """Waits until all answer, HEALTHY_S at most. Raises Refusal for one that does not come up."""
    end = time.monotonic() + HEALTHY_S
    for server in servers:
        _until_healthy(server, api_key, end)


def _until_healthy(server: Server, api_key: str, end: float) -> None:
    while time.monotonic() < end:
        try:
            # HAProxy before a server's socket answers this once it sends callers there.
            ask(server, api_key, "/health", "HEAD" if server.url.startswith("unix:") else "GET")
            return
        except (OSError, Refusal):  # it starts, or reads its model
            shown = systemctl(server.account, "show", "--property=ActiveState", "--property=NRestarts", server.unit).stdout
            if "ActiveState=failed" in shown or re.search(r"NRestarts=([3-9]|\d\d)", shown):
                raise Refusal(500, f"{server.unit} does not come up: `journalctl -u {server.unit}` on the host says why") from None
        time.sleep(1)
    raise Refusal(500, f"{server.unit} still does not answer after {HEALTHY_S // 60} minutes")


def ask(server: Server, api_key: str, path: str, method: str = "GET") -> bytes:
    """Raises OSError where it does not answer, and Refusal where that is no 200."""
    connection = _connection(server.url)
    connection.connect()
    whole, late = connection.sock.dup(), threading.Event()

    def hang_up() -> None:
        late.set()
        whole.shutdown(socket.SHUT_RDWR)

    clock = threading.Timer(ANSWER_S, hang_up)  # `timeout` is for each read, of which there can be many
    clock.daemon = True
    clock.start()
    try:
        keyed = api_key and (server.url.startswith("unix:") or _listens(server.account, connection.port))
        connection.request(method, path, headers={"Authorization": f"Bearer {api_key}"} if keyed else {})
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES + 1)
        if len(text) > ANSWER_BYTES:
            raise Refusal(500, f"{server.unit} answers {path} with more than {ANSWER_BYTES >> 20} MiB")
        if answer.length or late.is_set():
            raise OSError(f"{server.unit}: its answer broke off")
    except HTTPException as error:
        raise OSError(f"{server.unit}: {type(error).__name__}") from None
    finally:
        clock.cancel()
        connection.close()
        whole.close()
    if answer.status != 200:
        raise Refusal(500, f"{server.unit} answers {answer.status} to {path}: {text[:200].decode(errors='replace')}")
    return text


def _listens(account: str, port: int) -> bool:
    """Whether nobody but the account listens on a TCP port: anybody else is sent no key."""
    uids = set()
    for path in map(Path, ("/proc/self/net/tcp", "/proc/self/net/tcp6")):
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
            _, local, _, state, _, _, _, uid, *_ = line.split()
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                uids.add(int(uid))
    return uids == {pwd.getpwnam(account).pw_uid if account else 0}


def _connection(url: str) -> HTTPConnection:
    where = urlsplit(url)
    if where.scheme == "unix":
        return _SocketConnection(where.path)
    return HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)


class _SocketConnection(HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self.path)

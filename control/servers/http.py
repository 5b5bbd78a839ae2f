"""One llama-server, asked over HTTP through its host's connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any

from paramiko import SSHException

from control.ssh.reach import NotListening, Reach, Tunnelled
from inventory import bounds
from inventory.bounds import Bound, TooMuch, from_json, size_words, time_words
from inventory.errors import PaddockError
from roles.role import address_of, port_of
from roles.server import Server
from roles.wording import one_line

ANSWER_TIMEOUT_S = int(bounds.SERVER_ANSWER.seconds or 0)
"""For what a server knows without a model; an answer of a model may take its time."""

CLOSED = "Socket is closed"
"""How paramiko says that the other end has closed a channel before all was sent (paramiko/channel.py: send)."""

NO_SERVER = "does not answer like a llama-server"


class Asking:
    """One llama-server, asked over HTTP."""

    def __init__(self, reach: Reach, server: Server, patience_s: float = ANSWER_TIMEOUT_S) -> None:
        self.reach, self.server, self.patience_s = reach, server, patience_s
        self.name = f"{server.host}/{server.name}"
        endpoint = reach.fleet.endpoint(server, server.host)
        self.where = (address_of(endpoint), port_of(endpoint))
        self._vouched = False

    def get(self, path: str) -> Any:
        return self._json("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json("POST", path, body)

    def admits(self) -> bool:
        """Whether callers are sent to it: HAProxy before it says so. One of an account has none, and lets in whoever comes."""
        try:
            with self._asked("HEAD", "/health", None, self.patience_s):
                return True
        except NotListening:
            return False

    def stream(self, path: str, body: Mapping[str, Any], stop: Stop) -> Iterator[Mapping[str, Any]]:
        """The events of an answer, as they come, until it ends or is stopped."""
        try:
            with self._asked("POST", path, body, None, stop) as answer:
                for line in answer.lines(bounds.SERVER_STREAM):
                    data = line.removeprefix(b"data: ").strip()
                    if line.startswith(b"data: ") and data != b"[DONE]":
                        try:
                            event = from_json(data)
                        except ValueError:
                            raise PaddockError(f"{self.name}: {NO_SERVER}: {_shown(data)}") from None
                        if not isinstance(event, dict) or "error" in event:
                            raise PaddockError(f"{self.name}: {_message(event)}")
                        yield event
        except PaddockError:
            if not stop.meant:
                raise

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        with self._asked(method, path, body, self.patience_s) as answer:
            text = answer.whole()
        try:
            return from_json(text)
        except ValueError:
            raise PaddockError(f"{self.name}: {NO_SERVER}: {_shown(text)}") from None

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raises PaddockError where an answer has not got what a llama-server's has."""
        try:
            yield
        except (LookupError, TypeError, AttributeError) as error:
            raise PaddockError(f"{self.name}: {NO_SERVER}: {type(error).__name__}: {error}") from None

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None, stop: Stop | None = None) -> _Answer:
        """`timeout_s` is for all of the answer; None where a model may take its time for it."""
        try:
            connection = self.reach.http(self.server.host, *self.where)
        except NotListening:
            raise self._not_listening() from None
        headers = {"Content-Type": "application/json", "Connection": "close", **self._authorization()}
        clock = _Clock(connection, timeout_s or bounds.SERVER_STREAM.seconds or 0)
        try:
            connection.sock.settimeout(timeout_s)
            if stop:
                stop.by(connection.hang_up)
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            answer = _Answer(self.name, connection, connection.getresponse(), clock)
        except (HTTPException, SSHException, OSError, EOFError, ValueError) as error:
            clock.stop()
            connection.hang_up()
            hung_up = isinstance(error, RemoteDisconnected) or (type(error) is OSError and str(error) == CLOSED)
            if self.server.listener and hung_up and not clock.why and not (stop and stop.meant):
                raise self._not_listening() from None  # who holds its port for it takes the call, and closes it again
            why = clock.why or str(error) or type(error).__name__
            raise PaddockError(f"{self.name}: no answer ({why}): `paddock logs {self.name}`") from None
        if answer.response.status >= 400:
            with answer:
                text = answer.whole()
            try:
                said = _message(from_json(text))
            except ValueError:
                said = one_line(text[:200].decode(errors="replace").strip())
            raise HttpError(f"{self.name}: {said} (HTTP {answer.response.status})", answer.response.status)
        return answer

    def _not_listening(self) -> NotListening:
        address, port = self.where
        there = f"{self.server.host}: nothing answers on {address}:{port}, where {self.server.name} should"
        return NotListening(f"{there}: `paddock start {self.name}` starts it, `paddock logs {self.name}` says why not")

    def _authorization(self) -> Mapping[str, str]:
        if not self.server.api_key:
            return {}
        name = self.server.key_name
        if name not in self.reach.secrets:
            raise PaddockError(f"{self.name}: its API key is not in the fleet's secrets ({name}): `paddock up` makes it")
        if not self._vouched:
            said = self.reach.shell(self.server.host, f"if {self.server.holds_its_port}; then echo held; fi\n", "who listens there")
            if said != ["held"]:
                at = f"{self.where[0]}:{self.where[1]}"
                raise PaddockError(f"{self.name}: it does not hold {at}, so that it is sent no key there: `paddock up` starts what does")
            self._vouched = True
        return {"Authorization": f"Bearer {self.reach.secrets[name]}"}


class HttpError(PaddockError):
    """What a server said instead of an answer, with the status of HTTP."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class Stop:
    """Ends an answer early, called from beside: llama-server hears that nobody listens, and ends what it is at."""

    def __init__(self) -> None:
        self.meant = False
        self._act: Callable[[], None] | None = None

    def by(self, act: Callable[[], None]) -> None:
        self._act = act
        if self.meant:
            act()

    def __call__(self) -> None:
        self.meant = True
        if self._act:
            self._act()


class _Clock:
    """Hangs up when it is time: a timeout of the channel is for each piece of an answer."""

    def __init__(self, connection: Tunnelled, seconds: float) -> None:
        self.connection, self.seconds, self.why = connection, seconds, ""
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        self.why = f"it has not come to its end within {time_words(self.seconds)}"
        self.connection.hang_up()


@dataclass
class _Answer:
    name: str
    connection: Tunnelled
    response: HTTPResponse
    clock: _Clock

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.clock.stop()
        self.connection.hang_up()
        if self.clock.why or isinstance(error, (HTTPException, SSHException, OSError, EOFError)):
            raise PaddockError(f"{self.name}: the answer broke off ({self.clock.why or str(error) or type(error).__name__})") from None

    def whole(self) -> bytes:
        """Raises TooMuch where it is larger than such an answer is."""
        most = bounds.SERVER_ANSWER
        text = self.response.read(most.size + 1)
        if len(text) > most.size:
            raise TooMuch(f"{self.name}: {NO_SERVER}: it sends more than {size_words(most.size)}")
        if self.response.length:
            raise IncompleteRead(text, self.response.length)
        return text

    def lines(self, most: Bound) -> Iterator[bytes]:
        size = 0
        while line := self.response.readline(most.piece + 1):
            size += len(line)
            if len(line) > most.piece or size > most.size:
                limits = f"{size_words(most.size)} in {most.piece_of}s of {size_words(most.piece)}"
                raise TooMuch(f"{self.name}: {NO_SERVER}: it sends more than {limits}")
            yield line


def _shown(text: bytes) -> str:
    return repr(text[:80].decode(errors="replace"))


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    return one_line(str(error.get("message", error)) if isinstance(error, Mapping) else str(error))

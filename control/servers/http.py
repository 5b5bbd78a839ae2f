"""One llama-server, asked over HTTP through its host's connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from paramiko import SSHException

from control.ssh.reach import NotListening, Reach, Tunnelled
from inventory.errors import PaddockError
from roles.role import address_of, port_of
from roles.server import Server
from roles.wording import one_line

ANSWER_TIMEOUT_S = 60
"""For what a server knows without a model; an answer of a model may take its time."""

NO_SERVER = "does not answer like a llama-server"


class Asking:
    """One llama-server, asked over HTTP."""

    def __init__(self, reach: Reach, server: Server, patience_s: float = ANSWER_TIMEOUT_S) -> None:
        self.reach, self.server, self.patience_s = reach, server, patience_s
        self.name = f"{server.host}/{server.name}"
        endpoint = reach.fleet.endpoint(server, server.host)
        self.where = (address_of(endpoint), port_of(endpoint))

    def get(self, path: str) -> Any:
        return self._json("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json("POST", path, body)

    def stream(self, path: str, body: Mapping[str, Any], stop: Stop) -> Iterator[Mapping[str, Any]]:
        """The events of an answer, as they come, until it ends or is stopped."""
        try:
            with self._asked("POST", path, body, None, stop) as answer:
                for line in answer.response:
                    data = line.removeprefix(b"data: ").strip()
                    if line.startswith(b"data: ") and data != b"[DONE]":
                        event = json.loads(data)
                        if "error" in event:
                            raise PaddockError(f"{self.name}: {_message(event)}")
                        yield event
        except PaddockError:
            if not stop.meant:
                raise

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        with self._asked(method, path, body, self.patience_s) as answer:
            text = answer.response.read()
        try:
            return json.loads(text)
        except ValueError:
            raise PaddockError(f"{self.name}: {NO_SERVER}: {text[:80].decode(errors='replace')!r}") from None

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raises PaddockError where an answer has not got what a llama-server's has."""
        try:
            yield
        except (LookupError, TypeError, AttributeError) as error:
            raise PaddockError(f"{self.name}: {NO_SERVER}: {type(error).__name__}: {error}") from None

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None, stop: Stop | None = None) -> _Answer:
        try:
            connection = self.reach.http(self.server.host, *self.where)
        except NotListening as error:
            raise NotListening(
                f"{error}, where {self.server.name} should: `paddock start {self.name}` starts it, `paddock logs {self.name}` says why not"
            ) from None
        try:
            connection.sock.settimeout(timeout_s)
            if stop:
                stop.by(connection.hang_up)
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", "Connection": "close", **self._authorization()})
            answer = _Answer(self.name, connection, connection.getresponse())
        except (HTTPException, SSHException, OSError, EOFError, ValueError) as error:
            connection.hang_up()
            raise PaddockError(f"{self.name}: no answer ({str(error) or type(error).__name__}): `paddock logs {self.name}`") from None
        if answer.response.status >= 400:
            with answer:
                text = answer.response.read()
            try:
                said = _message(json.loads(text))
            except ValueError:
                said = one_line(text[:200].decode(errors="replace").strip())
            raise HttpError(f"{self.name}: {said} (HTTP {answer.response.status})", answer.response.status)
        return answer

    def _authorization(self) -> Mapping[str, str]:
        if not self.server.api_key:
            return {}
        name = self.server.key_name
        if name not in self.reach.secrets:
            raise PaddockError(f"{self.name}: its API key is not in the fleet's secrets ({name}): `paddock up` makes it")
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


@dataclass
class _Answer:
    name: str
    connection: Tunnelled
    response: HTTPResponse

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.connection.hang_up()
        if isinstance(error, (HTTPException, SSHException, OSError, EOFError)):
            raise PaddockError(f"{self.name}: the answer broke off ({str(error) or type(error).__name__})") from None


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    return one_line(str(error.get("message", error)) if isinstance(error, Mapping) else str(error))

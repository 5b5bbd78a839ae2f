"""What the llama-servers of a fleet serve, asked of themselves: a router's models come and go, an instance has one for good."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any

from paramiko import SSHException

from control.reach import NotListening, Reach, Tunnelled
from control.units import LINES_READ, Unit, complaint, last_lines, look
from inventory.errors import PaddockError
from inventory.servers import Server
from roles.role import address_of, port_of

ANSWER_TIMEOUT_S = 60
"""For what a server knows without a model; an answer of a model may take its time."""

LOOK_TIMEOUT_S = 10
"""The same, where one server after another is looked at: one that hangs is not to keep the others."""

NO_SERVER = "does not answer like a llama-server"

LOAD_TIMEOUT_S = 1800
"""A model of a hundred GiB, from a slow disk."""

LOOK_AGAIN_S = 0.5
LINES_OF_A_ROUTER = 400
"""Of its journal, for what one of its workers complained of."""

IN_MEMORY = ("loaded", "sleeping")


TRAINED = """
key=$(head -c 4194304 {path} 2>/dev/null | LC_ALL=C grep -abo '[a-z0-9_-]*[.]context_length' | head -n 1)
[ -z "$key" ] || {{
  name=${{key#*:}} after=$((${{key%%:*}} + ${{#name}}))
  od -An -tu4 -j $((after + 4)) -N 4 {path}
}}
"""
"""Out of a GGUF's header: behind a key stand four bytes that say what kind its value is, and the value, little-endian."""


@dataclass(frozen=True)
class Serving:
    """A model on a server. `status` is llama-server's own word, or `failed`, or the unit's state where the server does not answer.

    `context` is what the server has made of it in tokens, or, of a model that is not loaded, what it would be asked for; `trained` what the
    model was made for. `memory_mib` is the resident part of its process, weights that are mapped from the disk included.
    """

    server: Server
    model: str
    status: str
    why: str = ""
    context: int | None = None
    trained: int | None = None
    memory_mib: int | None = None
    card_mib: int | None = None


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
                said = text[:200].decode(errors="replace").strip()
            raise Refused(f"{self.name}: {said} (HTTP {answer.response.status})", answer.response.status)
        return answer

    def _authorization(self) -> Mapping[str, str]:
        if not self.server.api_key:
            return {}
        name = self.server.key_name
        if name not in self.reach.secrets:
            raise PaddockError(f"{self.name}: its API key is not in the fleet's secrets ({name}): `paddock up` makes it")
        return {"Authorization": f"Bearer {self.reach.secrets[name]}"}


class Refused(PaddockError):
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


def at_work(reach: Reach, server: Server, models: Iterable[str]) -> str:
    """Which of these models a server has in memory, the first of several; empty where it has none of them."""
    if server.kind == "instance":
        return next(iter(models), "")
    listed = router_status(Asking(reach, server))
    return next((model for model in models if listed.get(model, {}).get("value") in IN_MEMORY), "")


def survey(reach: Reach, servers: Iterable[Server]) -> list[Serving]:
    """Every model of the servers, host by host side by side; servers of hosts that cannot be reached are left out."""
    of_host: dict[str, list[Server]] = {}
    for server in servers:
        of_host.setdefault(server.host, []).append(server)

    def ask(host: str) -> list[Serving]:
        units = look(reach, host, of_host.get(host, []))
        return [each for server in of_host.get(host, []) for each in _of_server(reach, server, units[server.name])]

    found = reach.of_each(ask)  # in the order in which hosts answered
    return [each for host in of_host for each in found.get(host, ())]


def trained(reach: Reach, servers: Iterable[Server], model: str) -> int | None:
    """The context that a model was made for: a server that has it in memory says so, or else its file. None where neither is there."""
    servers = tuple(servers)
    found = [each.trained for each in survey(reach, servers) if each.model == model and each.trained]
    for host in dict.fromkeys(each.host for each in servers if each.host not in reach.failures and not found):
        path = shlex.quote(reach.fleet.model_path(host, model))
        found += [int(line) for line in reach.shell(host, TRAINED.format(path=path), model) if line.strip().isdigit()]
    return min(found, default=None)


def load(reach: Reach, server: Server, model: str, tell: Callable[[str], None] = lambda status: None) -> Serving:
    """Loads a model and waits until it is there. Raises PaddockError where it does not get there, with the reason that the server gave."""
    asking = Asking(reach, server)
    if server.kind == "router" and router_status(asking).get(model, {}).get("value") not in ("loading", *IN_MEMORY):
        asking.post("/models/load", {"model": model})
    began, told = time.monotonic(), ""
    while time.monotonic() < began + LOAD_TIMEOUT_S:
        found = _models(reach, server)[model]
        if found.status in IN_MEMORY:
            return found
        if found.status not in ("loading", "downloading", "downloaded"):
            raise PaddockError(f"{asking.name}: {model} is {found.status} after loading{f': {found.why}' if found.why else ''}")
        if found.status != told:
            tell(told := found.status)
        time.sleep(LOOK_AGAIN_S)
    raise PaddockError(f"{asking.name}: {model} is still not loaded after {LOAD_TIMEOUT_S // 60} minutes: `paddock logs {asking.name}`")


def unload(reach: Reach, server: Server, model: str) -> bool:
    """Unloads a model of a router and waits until it is gone; False where it was not loaded."""
    asking = Asking(reach, server)
    if router_status(asking).get(model, {}).get("value") not in ("loading", *IN_MEMORY):
        return False
    asking.post("/models/unload", {"model": model})
    end = time.monotonic() + ANSWER_TIMEOUT_S
    while router_status(asking).get(model, {}).get("value") != "unloaded":
        if time.monotonic() > end:
            raise PaddockError(f"{asking.name}: {model} is still not unloaded after {ANSWER_TIMEOUT_S} s: `paddock restart {asking.name}`")
        time.sleep(LOOK_AGAIN_S)
    return True


def ready(reach: Reach, server: Server, tell: Callable[[str], None] = lambda status: None) -> None:
    """Waits until a server that was started answers, an instance with its model. Raises PaddockError where it ends instead."""
    asking, began, told = Asking(reach, server), time.monotonic(), False
    while time.monotonic() < began + LOAD_TIMEOUT_S:
        try:
            asking.get("/health")
            return
        except Refused:
            if not told:
                tell("loading")
            told = True
        except NotListening:
            unit = look(reach, server.host, [server])[server.name]
            if unit.state not in ("active", "activating", "reloading") or time.monotonic() > began + ANSWER_TIMEOUT_S:
                why = complaint(last_lines(reach, server, LINES_READ))
                raise PaddockError(f"{asking.name}: is {unit.state} ({why}): `paddock logs {asking.name}`") from None
        time.sleep(LOOK_AGAIN_S)
    raise PaddockError(f"{asking.name}: still does not answer after {LOAD_TIMEOUT_S // 60} minutes: `paddock logs {asking.name}`")


def router_status(asking: Asking) -> Mapping[str, Mapping[str, Any]]:
    """Model → its status, as a router tells it."""
    with asking.understood():
        return {each["id"]: each["status"] for each in asking.get("/models")["data"]}


def _of_server(reach: Reach, server: Server, unit: Unit) -> list[Serving]:
    if unit.state != "active":
        return [Serving(server, model, unit.state, f"`paddock start {server.host}/{server.name}` starts it") for model in server.models]
    try:
        return list(_models(reach, server, unit, LOOK_TIMEOUT_S).values())
    except PaddockError as error:
        return [Serving(server, model, "no answer", str(error)) for model in server.models]


def _models(reach: Reach, server: Server, unit: Unit | None = None, patience_s: float = ANSWER_TIMEOUT_S) -> dict[str, Serving]:
    """What a server that runs says of its models, by name."""
    asking = Asking(reach, server, patience_s)
    with asking.understood():
        return {each.model: each for each in (_of_router if server.kind == "router" else _of_instance)(asking, unit)}


def _of_router(asking: Asking, unit: Unit | None) -> Iterator[Serving]:
    reach, server = asking.reach, asking.server
    listed = {each["id"]: each for each in asking.get("/models")["data"]}
    for model in dict.fromkeys((*server.models, *listed)):
        if model not in listed:
            yield Serving(server, model, "unknown", f"it does not know this model: `paddock up --limit {server.host}`")
            continue
        status, meta = listed[model]["status"], listed[model].get("meta") or {}
        arguments = status.get("args", [])
        port = _number(arguments, "--port")
        failed = bool(status.get("failed"))
        context = meta.get("n_ctx") or _number(arguments, "--ctx-size")
        yield Serving(
            server,
            model,
            "failed" if failed else status["value"],
            _why(reach, server, port, status.get("exit_code")) if failed else "",
            context,
            meta.get("n_ctx_train"),
            *_held(unit, port if status["value"] in IN_MEMORY else None),
        )


def _of_instance(asking: Asking, unit: Unit | None) -> Iterator[Serving]:
    server, model = asking.server, asking.server.models[0]
    held = _held(unit, server.port)
    try:
        meta = asking.get("/v1/models")["data"][0].get("meta") or {}
        context = meta.get("n_ctx") or asking.get("/props")["default_generation_settings"]["n_ctx"]
    except Refused as error:
        if error.status != 503:
            raise
        yield Serving(server, model, "loading", "", None, None, *held)
        return
    yield Serving(server, model, "loaded", "", context, meta.get("n_ctx_train"), *held)


def _held(unit: Unit | None, port: int | None) -> tuple[int | None, int | None]:
    held = unit.processes.get(port) if unit and port else None
    return (held.memory_kib // 1024, held.card_kib // 1024) if held else (None, None)


def _why(reach: Reach, server: Server, port: int | None, exit_code: int | None) -> str:
    """The first thing that a worker complained of; a router writes its workers' lines with their port in front."""
    mark = f"[{port}] "
    own = [line.removeprefix(mark) for line in last_lines(reach, server, LINES_OF_A_ROUTER) if line.startswith(mark)]
    return complaint(own) or f"it ended with exit code {exit_code}: `paddock logs {server.host}/{server.name}`"


def _number(arguments: list[str], option: str) -> int | None:
    value = arguments[arguments.index(option) + 1] if option in arguments[:-1] else ""
    return int(value) or None if value.isdigit() else None


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)

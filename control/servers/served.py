"""What the llama-servers of a fleet serve, asked of themselves: a router's models come and go, an instance has one for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from control.servers.file_on_host import shape_on_host
from control.servers.http import ANSWER_TIMEOUT_S, Asking, HttpError
from control.servers.units import LINES_READ, Unit, complaint, last_lines, look
from control.ssh.reach import NotListening, Reach
from inventory.errors import PaddockError
from roles.server import Server

LOOK_TIMEOUT_S = 10
"""For an answer where one server after another is looked at: one that hangs is not to keep the others."""

LOAD_TIMEOUT_S = 1800
"""A model of a hundred GiB, from a slow disk."""

NOTICED_S = 6
"""Who passes requests on to several servers asks each every two seconds: one that is back is to be known before the next leaves."""

LOOK_AGAIN_S = 0.5
ENDS_AGAIN = 3
"""A server that systemd had to start again so often does not come up, although systemd goes on."""
LINES_OF_A_ROUTER = 400
"""Of its journal, for what one of its workers complained of."""

IN_MEMORY = ("loaded", "sleeping")


@dataclass(frozen=True)
class ServedModel:
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


def at_work(reach: Reach, server: Server, models: Iterable[str]) -> str:
    """Which of these models a server has in memory, the first of several; empty where it has none of them."""
    if server.kind == "instance":
        return next(iter(models), "")
    listed = router_status(Asking(reach, server))
    return next((model for model in models if listed.get(model, {}).get("value") in IN_MEMORY), "")


def survey(reach: Reach, servers: Iterable[Server]) -> list[ServedModel]:
    """Every model of the servers, host by host side by side; servers of hosts that cannot be reached are left out."""
    of_host: dict[str, list[Server]] = {}
    for server in servers:
        of_host.setdefault(server.host, []).append(server)

    def ask(host: str) -> list[ServedModel]:
        units = look(reach, host, of_host.get(host, []))
        return [each for server in of_host.get(host, []) for each in _of_server(reach, server, units[server.name])]

    found = reach.of_each(ask)  # in the order in which hosts answered
    return [each for host in of_host for each in found.get(host, ())]


def trained(reach: Reach, servers: Iterable[Server], model: str) -> int | None:
    """The context that a model was trained for: from a server that has it in memory, or from its file. None where neither is there."""
    servers = tuple(servers)
    found = [each.trained for each in survey(reach, servers) if each.model == model and each.trained]
    for host in dict.fromkeys(each.host for each in servers if each.host not in reach.failures and not found):
        with suppress(PaddockError):  # no file, or no GGUF: `verify` says so
            found.append(shape_on_host(reach, host, reach.fleet.model_path(host, model)).context_length)
    return min(filter(None, found), default=None)


def load(reach: Reach, server: Server, model: str, tell: Callable[[str], None] = lambda status: None) -> ServedModel:
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


def unload_others(reach: Reach, server: Server, model: str) -> Iterator[str]:
    """Unloads whatever else a router has in memory, and gives each once it is gone. An instance has nothing else."""
    for other in server.models if server.kind == "router" else ():
        if other != model and unload(reach, server, other):
            yield other


def ready(reach: Reach, server: Server, tell: Callable[[str], None] = lambda status: None) -> None:
    """Waits until a server that was started answers and is warm, an instance with its model. Raises PaddockError where it ends instead."""
    asking, began, told = Asking(reach, server), time.monotonic(), False
    while time.monotonic() < began + LOAD_TIMEOUT_S:
        try:
            asking.get("/health")
            if asking.admits():
                return
        except HttpError:
            if not told:
                tell("loading")
            told = True
        except NotListening:
            unit = look(reach, server.host, [server])[server.name]
            ends = unit.restarts >= ENDS_AGAIN
            if ends or unit.state not in ("active", "activating", "reloading") or time.monotonic() > began + ANSWER_TIMEOUT_S:
                why, state = complaint(last_lines(reach, server, LINES_READ)), "ends again and again" if ends else f"is {unit.state}"
                raise PaddockError(f"{asking.name}: {state} ({why}): `paddock logs {asking.name}`") from None
        time.sleep(LOOK_AGAIN_S)
    raise PaddockError(f"{asking.name}: still does not answer after {LOAD_TIMEOUT_S // 60} minutes: `paddock logs {asking.name}`")


def router_status(asking: Asking) -> Mapping[str, Mapping[str, Any]]:
    """Model → its status, as a router tells it."""
    with asking.understood():
        return {each["id"]: each["status"] for each in asking.get("/models")["data"]}


def _of_server(reach: Reach, server: Server, unit: Unit) -> list[ServedModel]:
    if unit.state != "active":
        return [ServedModel(server, model, unit.state, f"`paddock start {server.host}/{server.name}` starts it") for model in server.models]
    try:
        return list(_models(reach, server, unit, LOOK_TIMEOUT_S).values())
    except PaddockError as error:
        return [ServedModel(server, model, "no answer", str(error)) for model in server.models]


def _models(reach: Reach, server: Server, unit: Unit | None = None, patience_s: float = ANSWER_TIMEOUT_S) -> dict[str, ServedModel]:
    """What a server that runs says of its models, by name."""
    asking = Asking(reach, server, patience_s)
    with asking.understood():
        return {each.model: each for each in (_of_router if server.kind == "router" else _of_instance)(asking, unit)}


def _of_router(asking: Asking, unit: Unit | None) -> Iterator[ServedModel]:
    reach, server = asking.reach, asking.server
    listed = {each["id"]: each for each in asking.get("/models")["data"]}
    for model in dict.fromkeys((*server.models, *listed)):
        if model not in listed:
            yield ServedModel(server, model, "unknown", f"it does not know this model: `paddock up --limit {server.host}`")
            continue
        status, meta = listed[model]["status"], listed[model].get("meta") or {}
        arguments = status.get("args", [])
        port = _number(arguments, "--port")
        failed = bool(status.get("failed"))
        context = meta.get("n_ctx") or _number(arguments, "--ctx-size")
        yield ServedModel(
            server,
            model,
            "failed" if failed else status["value"],
            _why(reach, server, port, status.get("exit_code")) if failed else "",
            context,
            meta.get("n_ctx_train"),
            *_held(unit, port if status["value"] in IN_MEMORY else None),
        )


def _of_instance(asking: Asking, unit: Unit | None) -> Iterator[ServedModel]:
    server, model = asking.server, asking.server.models[0]
    held = _held(unit, server.port)
    try:
        meta = asking.get("/v1/models")["data"][0].get("meta") or {}
        context = meta.get("n_ctx") or asking.get("/props")["default_generation_settings"]["n_ctx"]
    except HttpError as error:
        if error.status != 503:
            raise
        yield ServedModel(server, model, "loading", "", None, None, *held)
        return
    yield ServedModel(server, model, "loaded", "", context, meta.get("n_ctx_train"), *held)


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

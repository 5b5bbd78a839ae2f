"""Asks the llama-servers of this host now and then, and leaves what they say as a file for the node exporter.

A router says which of its models are loaded without loading any. Only of a loaded one that never falls asleep are the metrics read: a
reading would keep another awake, in some versions of llama.cpp wake it (ggml-org/llama.cpp#20227, #23096). None moves a model up among
those that a router ends last: that counts requests alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

ANSWER_S = 5.0
ANSWER_BYTES = 8 << 20
LINES = 500
"""Of one model's page."""
STATES = ("unloaded", "loading", "loaded", "sleeping", "downloading", "downloaded")
METRIC = re.compile(r"(llamacpp:[a-zA-Z0-9_:]{1,100}) ([-+0-9.eE]{1,40}|NaN|[-+]?Inf)")

Ask = Callable[[str, str], bytes]
"""What a socket answers to a path. Raises OSError."""


@dataclass(frozen=True)
class Server:
    """A llama-server behind the Unix socket at `socket`. `models` are those of the inventory; those that are `asleep` at times are asked
    nothing that could wake them."""

    name: str
    socket: str
    router: bool
    models: tuple[str, ...]
    asleep: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    metric: str
    labels: Mapping[str, str]
    value: str

    def __str__(self) -> str:
        said = ",".join(f'{name}="{_escaped(value)}"' for name, value in self.labels.items())
        return f"{self.metric}{{{said}}} {self.value}"


def main() -> None:
    """Until it is ended. The first argument is the configuration."""
    said = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    servers = [Server(**{**each, "models": tuple(each["models"]), "asleep": tuple(each["asleep"])}) for each in said["servers"]]
    key, out = os.environ.get("LLAMA_API_KEY", ""), Path(said["out"])
    while True:
        write(out, page(servers, lambda at, path: ask(at, path, key)))
        time.sleep(said["every_s"])


def page(servers: Sequence[Server], ask: Ask) -> str:
    """The file: each metric's samples together, as the text format wants it."""
    by_metric: dict[str, list[Sample]] = {}
    for server in servers:
        for sample in _samples(server, ask):
            by_metric.setdefault(sample.metric, []).append(sample)
    lines = [
        line
        for metric in sorted(by_metric)
        for line in (*([f"# HELP {metric} {HELP[metric]}", f"# TYPE {metric} gauge"] if metric in HELP else ()), *by_metric[metric])
    ]
    return "".join(f"{line}\n" for line in lines)


HELP = {
    "paddock_server_answers": "1 while the llama-server answers.",
    "paddock_model_state": "1 for the state that the model is in.",
    "paddock_model_failed": "1 while the model could not be loaded.",
}


def _samples(server: Server, ask: Ask) -> Iterator[Sample]:
    try:
        found = list(_routed(server, ask) if server.router else _alone(server, ask))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        yield Sample("paddock_server_answers", {"server": server.name}, "0")
        return
    yield Sample("paddock_server_answers", {"server": server.name}, "1")
    yield from found


def _routed(server: Server, ask: Ask) -> Iterator[Sample]:
    """Of a router, by what it says of its models. What the inventory does not have is none of its."""
    for each in json.loads(ask(server.socket, "/models"))["data"]:
        model, status = str(each["id"]), each["status"]
        if model not in server.models:
            continue
        yield from _states(server, model, str(status["value"]))
        yield Sample("paddock_model_failed", {"server": server.name, "model": model}, str(int(bool(status.get("failed")))))
        if status["value"] == "loaded" and model not in server.asleep:
            try:
                text = ask(server.socket, f"/metrics?model={quote(model, safe='')}&autoload=false")
            except OSError:
                continue  # it has been unloaded since
            yield from _own(server, model, text)


def _alone(server: Server, ask: Ask) -> Iterator[Sample]:
    """Of a server of one model that may be asleep, which it says without waking."""
    (model,) = server.models
    asleep = json.loads(ask(server.socket, "/props")).get("is_sleeping") is True
    yield from _states(server, model, "sleeping" if asleep else "loaded")


def _states(server: Server, model: str, state: str) -> Iterator[Sample]:
    for each in STATES:
        yield Sample("paddock_model_state", {"server": server.name, "model": model, "state": each}, str(int(each == state)))


def _own(server: Server, model: str, text: bytes) -> Iterator[Sample]:
    """The model's own metrics, without its comments: each with whose it is."""
    for line in text.decode(errors="replace").split("\n")[:LINES]:
        if match := METRIC.fullmatch(line.strip()):
            yield Sample(match[1], {"server": server.name, "model": model}, match[2])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def ask(at: str, path: str, key: str) -> bytes:
    """Raises OSError where nobody answers in time, or not with 200."""
    connection = _SocketConnection(at)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES + 1)
    except HTTPException as error:
        raise OSError(f"{at}: {type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != 200 or len(text) > ANSWER_BYTES:
        raise OSError(f"{at}: {answer.status} to {path}")
    return text


class _SocketConnection(HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self.path)


def write(path: Path, text: str) -> None:
    """Whoever reads has the file from before, or this one."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)

"""What the node exporter is told of the models of a router, and of one that falls asleep, and what is never asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.node_exporter.collector import Server, ask, page, write

ROUTER = Server("router", "/run/router.sock", True, ("small", "drowsy", "away"), ("drowsy",))
ALONE = Server("chat", "/run/chat.sock", False, ("night",), ("night",))
METRICS = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 42
llamacpp:predicted_tokens_seconds 3.25e+01
strange{model="x"} 1
llamacpp:broken one
"""


def listed(**states: str) -> str:
    return json.dumps({"data": [{"id": name, "status": {"value": state, "failed": state == "unloaded"}} for name, state in states.items()]})


def told(answers: Mapping[str, str | bytes], *servers: Server) -> tuple[dict[tuple[str, ...], float], list[str]]:
    """The samples, by name and label values in the order of the labels' names; and what was asked."""
    asked: list[str] = []

    def answer(at: str, path: str) -> bytes:
        asked.append(path)
        if path not in answers:
            raise OSError(path)
        said = answers[path]
        return said if isinstance(said, bytes) else said.encode()

    families = text_string_to_metric_families(page(servers, answer))
    found = {
        (each.name, *(each.labels[name] for name in sorted(each.labels))): each.value for family in families for each in family.samples
    }
    return found, asked


def test_every_model_of_a_router_has_its_state_and_none_is_asked_that_a_question_would_load_or_keep_awake() -> None:
    answers = {
        "/models": listed(small="loaded", drowsy="loaded", away="unloaded", phantom="loaded"),
        "/metrics?model=small&autoload=false": METRICS,
    }
    found, asked = told(answers, ROUTER)
    assert asked == ["/models", "/metrics?model=small&autoload=false"]
    states = {key[1:]: value for key, value in found.items() if key[0] == "paddock_model_state" and value}
    assert set(states) == {("small", "router", "loaded"), ("drowsy", "router", "loaded"), ("away", "router", "unloaded")}
    assert found["paddock_model_failed", "away", "router"] == 1 and found["paddock_model_failed", "small", "router"] == 0
    assert found["llamacpp:prompt_tokens_total", "small", "router"] == 42
    assert found["llamacpp:predicted_tokens_seconds", "small", "router"] == 32.5
    assert not [key for key in found if "phantom" in key or key[0] in ("strange", "llamacpp:broken")]


def test_a_model_that_was_unloaded_meanwhile_has_its_state_alone() -> None:
    found, _ = told({"/models": listed(small="loaded")}, ROUTER)
    assert found["paddock_model_state", "small", "router", "loaded"] == 1
    assert found["paddock_server_answers", "router"] == 1


@pytest.mark.parametrize(("asleep", "state"), [(True, "sleeping"), (False, "loaded")])
def test_a_server_of_one_model_says_itself_whether_that_sleeps(asleep: bool, state: str) -> None:
    found, asked = told({"/props": json.dumps({"is_sleeping": asleep})}, ALONE)
    assert found["paddock_model_state", "night", "chat", state] == 1 and asked == ["/props"]


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b'{"data": 1}', b'{"data": [{}]}', b'{"data": [{"id": "small", "status": 1}]}', b"[" * 100_000, b"\xff"]
)
def test_a_server_that_answers_nonsense_does_not_answer_and_others_are_told_of(answer: bytes) -> None:
    found, _ = told({"/models": answer, "/props": "{}"}, ROUTER, ALONE)
    assert found["paddock_server_answers", "router"] == 0 and found["paddock_server_answers", "chat"] == 1


def test_names_cannot_break_the_file() -> None:
    name = 'a"b\\c\nd'
    found, _ = told({"/models": listed(**{name: "sleeping"})}, Server("router", "", True, (name,), ()))
    assert found["paddock_model_state", name, "router", "sleeping"] == 1


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == "Bearer sk-1"
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None: ...


def test_it_asks_by_the_socket_with_the_key(tmp_path: Path) -> None:
    at = str(tmp_path / "s.sock")
    with UnixStreamServer(at, Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        assert ask(at, "/props", "sk-1") == b"{}"
        with pytest.raises(OSError, match="401 to /props"):
            ask(at, "/props", "")
        server.shutdown()
    with pytest.raises(OSError):
        ask(at, "/props", "sk-1")


def test_one_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.node_exporter.collector.ANSWER_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s.sock"))
        silent.listen()
        with pytest.raises(OSError):
            ask(str(tmp_path / "s.sock"), "/models", "")


def test_a_reader_finds_a_whole_file(tmp_path: Path) -> None:
    write(tmp_path / "a.prom", "one 1\n")
    write(tmp_path / "a.prom", "two 2\n")
    assert [each.name for each in tmp_path.iterdir()] == ["a.prom"] and (tmp_path / "a.prom").read_text() == "two 2\n"
    assert (tmp_path / "a.prom").stat().st_mode & 0o777 == 0o644

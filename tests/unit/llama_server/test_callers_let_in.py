"""callers.sh: who asks reaches a server once it is warm, and has the answer before it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from roles.role import TEMPLATES
from tests.unit.on_unix_sockets import CSV, answering, figures

SCRIPT = TEMPLATES / "llama_server" / "callers.sh"


@dataclass
class Llama:
    """A llama-server in a directory: `health` is what it says of itself, `loaded` the models that it has in memory."""

    directory: Path
    health: int = 200
    status: int = 200
    loaded: tuple[str, ...] = ()
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The path of each question, and its model."""
    open_when_asked: list[bool] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        if path == "/health":
            return self.health, "{}"
        if path == "/models":
            told = [{"id": name, "status": {"value": "loaded" if name in self.loaded else "unloaded"}} for name in ("a", "b.c", "d")]
            return 200, json.dumps({"data": told}, separators=(",", ":"))
        self.asked.append((path, json.loads(body)["model"]))
        self.open_when_asked.append(self.is_open)
        return self.status, "{}"

    @property
    def is_open(self) -> bool:
        return (self.directory / "open.sock").is_socket()

    def admit(self, kind: str, *models: str, seconds: int = 5) -> str:
        """What is told until callers are let in."""
        command = ["sh", str(SCRIPT), "admit", str(self.directory), str(self.directory / "loaded"), str(seconds), kind, *models]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    def drain(self, figures: str, seconds: int, process: subprocess.Popen[bytes] | None, kind: str = "router") -> None:
        command = ["sh", str(SCRIPT), "drain", str(self.directory), str(self.directory / "loaded"), figures, str(seconds), kind]
        env = {"PATH": "/usr/bin:/bin", **({"MAINPID": str(process.pid)} if process else {})}
        with subprocess.Popen(command, env=env) as draining:
            if process:
                process.wait(20)
            assert draining.wait(20) == 0


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[Llama]:
    llama = Llama(tmp_path)
    with answering(str(tmp_path / "http.sock"), llama.answer):
        yield llama


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_an_instance_is_asked_once_before_callers_are_let_in(llama: Llama) -> None:
    assert llama.admit("instance", "chat=a") == ""
    assert llama.asked == [("/v1/completions?autoload=true", "a")] and llama.open_when_asked == [False]
    assert llama.is_open


def test_what_a_model_is_for_decides_what_it_is_asked(llama: Llama) -> None:
    llama.admit("instance", "embedding=a", "rerank=d")
    assert llama.asked == [("/v1/embeddings?autoload=true", "a"), ("/v1/rerank?autoload=true", "d")]


def test_a_router_has_after_a_restart_the_models_that_it_had_before(llama: Llama, process: subprocess.Popen[bytes]) -> None:
    llama.loaded = ("b.c",)
    with figures(0, "DOWN") as path:
        llama.drain(path, 5, process)
    (llama.directory / "http.sock.drained").rename(llama.directory / "http.sock")
    llama.admit("router", "chat=a", "chat=b.c", "chat=d")
    assert [model for _, model in llama.asked] == ["b.c"]
    llama.admit("router", "chat=a", "chat=b.c", "chat=d")
    assert len(llama.asked) == 1, "a start that follows no stop loads nothing"


def test_a_model_that_does_not_work_is_told_and_keeps_nobody_out(llama: Llama) -> None:
    llama.status = 500
    assert "<4>a is not warmed up: HTTP 500" in llama.admit("instance", "chat=a")
    assert llama.is_open


def test_there_is_a_time_for_warming_up_and_then_callers_are_let_in(llama: Llama) -> None:
    assert "a is not warmed up: the 0 s for that are over" in llama.admit("instance", "chat=a", seconds=0)
    assert llama.is_open and not llama.asked


def test_a_server_ends_once_it_answers_nobody_and_nobody_is_sent_there(llama: Llama, process: subprocess.Popen[bytes]) -> None:
    said = iter([(1, "UP"), (0, "UP"), (0, "UP 1/3"), (1, "DOWN"), (0, "DOWN")])
    alive = list[bool]()

    def answer(*_: object) -> tuple[int, str]:
        alive.append(process.poll() is None)
        running, status = next(said)
        return 200, CSV.format(running=running, status=status)

    with answering(path := str(llama.directory / "figures.sock"), answer):
        llama.drain(path, 3600, process)
    assert alive == [True] * 5


def test_answers_that_take_too_long_are_ended(llama: Llama, process: subprocess.Popen[bytes]) -> None:
    with figures(1, "DOWN") as path:
        llama.drain(path, 1, process)
    assert process.returncode == -15


@pytest.mark.parametrize("status", ["DOWN", "DOWN 1/2"])
def test_a_server_that_nobody_is_sent_to_ends_at_once_and_callers_no_longer_reach_it(
    llama: Llama, process: subprocess.Popen[bytes], status: str
) -> None:
    llama.admit("instance", "chat=a")
    with figures(0, status) as path:
        llama.drain(path, 3600, process, "instance")
    assert not llama.is_open


def test_one_that_answers_nothing_any_more_or_has_nothing_before_it_is_not_waited_for(
    llama: Llama, process: subprocess.Popen[bytes]
) -> None:
    llama.drain("/nowhere/figures.sock", 3600, process)
    llama.health = 500
    with subprocess.Popen(["sleep", "60"]) as hung, figures(1, "DOWN") as path:
        (llama.directory / "http.sock.drained").rename(llama.directory / "http.sock")
        llama.drain(path, 3600, hung)


def test_of_one_that_has_ended_by_itself_nothing_is_drained(llama: Llama) -> None:
    with figures(1, "UP") as path:
        llama.drain(path, 3600, None)
    assert (llama.directory / "http.sock").is_socket()

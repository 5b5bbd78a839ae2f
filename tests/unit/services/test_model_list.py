"""The model list, as Caddy asks it over its socket: what clients may see of llama-server's answers, and nothing else of them."""

from __future__ import annotations

import ast
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, UnixStreamServer
from typing import Any

import pytest
from hypothesis import given, strategies

from services.caddy import __file__ as package
from services.caddy import answers
from services.caddy.server import ANSWER_BYTES, ANSWER_S, CALLS, STREAMS, Calls

PACKAGE = Path(package).parent
SECRET = "/srv/secret"


def command_line(*more: str) -> list[str]:
    path = f"{SECRET}/chat.gguf"
    return ["/opt/secret/bin/llama-server", "--host", "127.0.0.1", "--port", "0", "--alias", "secret", "--model", path, *more]


def entry(name: str, *more: str, **fields: Any) -> dict[str, Any]:
    """A model in a router's list (llama.cpp 0.3.36, server-models.cpp: get_router_models)."""
    status = {"value": "unloaded", "args": command_line(*more), "preset": f"[{name}]\nmodel = {SECRET}\n\n"}
    architecture = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    own = {"id": name, "aliases": [], "tags": ["a"], "object": "model", "owned_by": "llamacpp", "created": 1795979993}
    return {**own, "status": status, "architecture": architecture, "source": "preset", "can_remove": False, **fields}


LOADED = {"n_ctx": 512, "n_ctx_train": 32768, "n_params": 27488, "size": 55168, "path": SECRET}
LISTED = {
    "object": "list",
    "data": [
        entry("chat", "--ctx-size", "8192", "--parallel", "2"),
        entry("one", "--ctx-size", "8192", "--parallel", "2", "--kv-unified"),
        entry("vectors", "--embeddings"),
        entry("ranks", "--reranking", "--ctx-size", "much"),
        entry("here", "--ctx-size", "4096", meta=LOADED),
        entry("lost", status={"value": "unloaded", "failed": True, "exit_code": 1, "args": command_line()}),
        {**entry("nothing"), "status": {"value": "unloaded", "args": ["/opt/secret/bin/llama-server", "--ctx-size", "512"]}},
    ],
    "secret": SECRET,
}
FIXED = {
    "object": "list",
    "models": [{"name": "chat", "model": "chat", "capabilities": ["completion"], "details": {"format": "gguf", "secret": SECRET}}],
    "data": [{"id": "chat", "object": "model", "created": 1, "owned_by": "llamacpp", "meta": LOADED}],
}
PROPS = {
    "default_generation_settings": {"n_ctx": 512, "params": {"seed": 1}, "prompt": "secret"},
    "total_slots": 2,
    "model_path": f"{SECRET}/chat.gguf",
    "modalities": {"vision": True},
    "chat_template": "{{ messages }}",
    "environment": {"LLAMA_API_KEY": "secret"},
}
EVENT = {"model": "chat", "event": "status_change", "data": {"status": "loaded", "info": {**entry("chat"), "meta": LOADED}}}


class Upstream(BaseHTTPRequestHandler):
    """A llama-server, as far as it answers these questions."""

    says: dict[str, tuple[int, bytes]] = {}
    asked: list[tuple[str, dict[str, str]]] = []
    left = threading.Event()

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers.items())))
        if self.path == "/models/sse":
            self._stream()
            return
        status, data = self.says.get(self.path.partition("?")[0], (404, b'{"error": {"message": "File Not Found", "code": 404}}'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f": secret\nid: {SECRET}\ndata: {json.dumps(EVENT)}\n\n".encode())
        self.wfile.flush()
        while self.connection.recv(1):
            pass
        self.left.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    Upstream.says = {path: (200, json.dumps(LISTED).encode()) for path in ("/models", "/v1/models")}
    Upstream.says["/props"] = (200, json.dumps(PROPS).encode())
    Upstream.asked, Upstream.left = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "list.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(CALLS)
    server = Calls(listener)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield path
    server.shutdown()
    server.server_close()


def connected(path: Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("site", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(path))
    return connection


def ask(path: Path, upstream: str, what: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    with closing(connected(path)) as connection:
        connection.request(method, what, headers={"X-Paddock-Upstream": upstream, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def followed(path: Path, upstream: str) -> int:
    with closing(connected(path)) as connection:
        connection.request("GET", "/models/sse", headers={"X-Paddock-Upstream": upstream})
        return connection.getresponse().status


def listed(path: Path, upstream: str) -> dict[str, Any]:
    status, text = ask(path, upstream, "/v1/models")
    assert status == 200
    return {each["id"]: each for each in json.loads(text)["data"]}


def test_no_command_line_no_path_and_no_environment_gets_through(calls: Path, upstream: str) -> None:
    for what in ("/models", "/v1/models", "/props", "/props?model=chat"):
        status, text = ask(calls, upstream, what)
        assert status == 200 and "secret" not in text and "--" not in text, text
    Upstream.says["/models"] = (200, json.dumps(FIXED).encode())
    found = json.loads(ask(calls, upstream, "/models")[1])
    assert found["data"][0]["meta"] == {name: value for name, value in LOADED.items() if name != "path"}
    assert found["models"] == [{"name": "chat", "model": "chat", "capabilities": ["completion"], "details": {"format": "gguf"}}]


def test_each_model_has_its_status_and_the_context_of_one_conversation(calls: Path, upstream: str) -> None:
    models = listed(calls, upstream)
    contexts = {name: model.get("meta", {}).get("n_ctx") for name, model in models.items()}
    assert contexts == {"chat": 4096, "one": 8192, "vectors": None, "ranks": None, "here": 512, "lost": None}
    assert models["chat"]["status"] == {"value": "unloaded"}
    assert models["lost"]["status"] == {"value": "unloaded", "failed": True, "exit_code": 1}
    assert models["chat"]["architecture"]["input_modalities"] == ["text", "image"]


def test_what_a_model_is_for_is_said_in_place_of_the_option_that_makes_it_so(calls: Path, upstream: str) -> None:
    found = {name: model["architecture"]["output_modalities"] for name, model in listed(calls, upstream).items()}
    assert (found["chat"], found["vectors"], found["ranks"]) == (["text"], ["embeddings"], ["scores"])


def test_a_section_without_a_model_is_no_model(calls: Path, upstream: str) -> None:
    assert "nothing" not in listed(calls, upstream)


def test_the_page_finds_a_path_that_says_nothing_and_its_own_settings(calls: Path, upstream: str) -> None:
    found = json.loads(ask(calls, upstream, "/props")[1])
    assert found == {
        "default_generation_settings": {"n_ctx": 512, "params": {"seed": 1}},
        "total_slots": 2,
        "model_path": "none",
        "modalities": {"vision": True},
        "chat_template": "{{ messages }}",
    }


def test_looking_loads_nothing_and_rereads_nothing(calls: Path, upstream: str) -> None:
    ask(calls, upstream, "/models?reload=1")
    ask(calls, upstream, "/props?autoload=true&reload=1")
    ask(calls, upstream, "/props?model=a%26autoload%3dtrue&autoload=true&model=b")
    assert [path for path, _ in Upstream.asked] == ["/models", "/props", "/props?model=a%26autoload%3Dtrue&autoload=false"]


def test_the_key_of_who_asks_is_passed_on_and_nothing_else_of_him(calls: Path, upstream: str) -> None:
    ask(
        calls,
        upstream,
        "/models",
        **{"Authorization": "Bearer a", "X-Api-Key": "b", "X-Conversation-Id": "c", "Cookie": "d", "Origin": "e"},
    )
    ((_, headers),) = Upstream.asked
    assert headers.keys() == {"Host", "Accept-Encoding", "Authorization", "X-Api-Key"}


def test_a_refusal_of_the_server_is_passed_on_as_far_as_it_is_one(calls: Path, upstream: str) -> None:
    refused = {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401, "secret": SECRET}, "secret": SECRET}
    Upstream.says["/models"] = (401, json.dumps(refused).encode())
    status, text = ask(calls, upstream, "/models")
    assert (status, json.loads(text)) == (401, {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}})


@pytest.mark.parametrize("data", [b"", b"secret", b"[" * 100_000, b'{"data": "secret', b'"' + b"secret" * (ANSWER_BYTES // 6 + 1) + b'"'])
def test_what_is_no_answer_of_a_llama_server_is_a_502_without_a_word_of_it(calls: Path, upstream: str, data: bytes) -> None:
    Upstream.says["/models"] = (200, data)
    status, text = ask(calls, upstream, "/models")
    assert status == 502 and "secret" not in text and json.loads(text)["error"]["message"]


class HangsUp(BaseRequestHandler):
    """Who holds a server's socket while that does not run: whoever calls is hung up on."""


def test_a_server_of_its_own_host_is_asked_by_its_unix_socket(calls: Path, upstream: str, tmp_path: Path) -> None:
    for name, handler in (("stopped.sock", HangsUp), ("up.sock", Upstream)):
        server = UnixStreamServer(str(tmp_path / name), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    stopped, up = (f"unix/{tmp_path}/{name}" for name in ("stopped.sock", "up.sock"))
    assert ask(calls, up, "/v1/models")[0] == 200
    assert ask(calls, stopped, "/v1/models")[0] == 502
    assert ask(calls, f"{stopped},{up}", "/v1/models")[0] == 200
    assert ask(calls, f"unix/{tmp_path}/none.sock,{stopped},{upstream}", "/v1/models")[0] == 200


class Another(Upstream):
    """A second llama-server: it has one of the models in memory, and one that the first lacks."""

    asked: list[tuple[str, dict[str, str]]] = []
    left = threading.Event()
    status = {**entry("chat", "--ctx-size", "8192"), "status": {"value": "loaded", "args": command_line("--ctx-size", "4096")}}
    says = {
        "/v1/models": (200, json.dumps({"object": "list", "data": [status, entry("more")]}).encode()),
        "/props": (200, json.dumps({"total_slots": 7}).encode()),
    }


@pytest.fixture
def another(tmp_path: Path) -> Iterator[str]:
    with UnixStreamServer(str(tmp_path / "another.sock"), Another) as server:
        server.daemon_threads = True  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"unix/{tmp_path}/another.sock"
        server.shutdown()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """A host that is switched off, behind a tunnel that takes the call."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        yield f"unix/{tmp_path}/silent.sock"


def test_of_several_servers_all_models_are_listed_once_and_as_the_one_says_that_has_it_in_memory(
    calls: Path, upstream: str, another: str
) -> None:
    found = listed(calls, f"{upstream},{another}")
    assert list(found) == ["chat", "one", "vectors", "ranks", "here", "lost", "more"]
    assert (found["chat"]["status"]["value"], found["chat"]["meta"]["n_ctx"]) == ("loaded", 4096)
    assert found["here"]["meta"]["n_ctx"] == 512
    assert "secret" not in json.dumps(found)


def test_a_server_that_says_nothing_holds_up_the_list_for_seconds_only(calls: Path, upstream: str, silent: str) -> None:
    began = time.monotonic()
    assert "one" in listed(calls, f"{silent},{upstream}")
    assert time.monotonic() - began < ANSWER_S / 2


def test_the_properties_are_those_of_the_first_server_that_has_the_model(calls: Path, upstream: str, another: str) -> None:
    for first, slots in ((f"{upstream},{another}", 2), (f"{another},{upstream}", 7)):
        status, text = ask(calls, first, "/props")
        assert (status, json.loads(text)["total_slots"]) == (200, slots)
    Upstream.says["/props"] = (400, json.dumps({"error": {"message": "model not found", "code": 400}}).encode())
    status, text = ask(calls, f"{upstream},{another}", "/props?model=more")
    assert (status, json.loads(text)["total_slots"]) == (200, 7)
    assert ask(calls, upstream, "/props?model=more")[0] == 400


def test_what_happens_at_any_of_several_servers_is_told_and_all_are_left_with_the_reader(calls: Path, upstream: str, silent: str) -> None:
    with closing(connected(calls)) as connection:
        connection.request("GET", "/models/sse", headers={"X-Paddock-Upstream": f"{silent},{upstream},{upstream}"})
        answer = connection.getresponse()
        for _ in range(2):
            line = answer.readline()
            assert line.startswith(b"data: ") and answer.readline() == b"\n"
            assert json.loads(line[6:])["model"] == "chat"
        answer.close()
    assert Upstream.left.wait(10)


class Late(Upstream):
    """Who begins to tell events when it is let, and has none to tell."""

    let, left = threading.Event(), threading.Event()

    def _stream(self) -> None:
        self.let.wait(20)
        self.send_response(200)
        self.end_headers()
        while self.connection.recv(1):
            pass
        self.left.set()


def test_a_server_that_begins_to_tell_when_the_reader_has_left_is_left_too(calls: Path, upstream: str, tmp_path: Path) -> None:
    with UnixStreamServer(str(tmp_path / "late.sock"), Late) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with closing(connected(calls)) as connection:
            connection.request("GET", "/models/sse", headers={"X-Paddock-Upstream": f"{upstream},unix/{tmp_path}/late.sock"})
            answer = connection.getresponse()
            assert answer.readline().startswith(b"data: ")
            answer.close()
        assert Upstream.left.wait(10)
        Late.let.set()
        assert Late.left.wait(10)
        server.shutdown()


def test_a_server_that_is_down_is_left_out(calls: Path, upstream: str) -> None:
    assert ask(calls, f"127.0.0.1:1,{upstream}", "/models")[0] == 200
    for nobody in ("127.0.0.1:1", "", "nonsense", "127.0.0.1:99999999", "[::1"):
        status, text = ask(calls, nobody, "/models")
        assert status == 502 and "127.0.0.1" not in text, nobody


def test_nothing_else_is_asked_of_the_server(calls: Path, upstream: str) -> None:
    for method, what, status in (
        ("GET", "/slots", 404),
        ("GET", "/models/", 404),
        ("GET", "http://site/models", 404),
        ("POST", "/models", 501),
        ("DELETE", "/models", 501),
    ):
        assert ask(calls, upstream, what, method)[0] == status, what
    assert not Upstream.asked
    assert ask(calls, upstream, "/models", "HEAD") == (200, "")


def test_events_come_as_they_happen_and_end_when_their_reader_leaves(calls: Path, upstream: str) -> None:
    connection = connected(calls)
    connection.request("GET", "/models/sse", headers={"X-Paddock-Upstream": upstream})
    answer = connection.getresponse()
    line = answer.readline()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert line.startswith(b"data: ") and answer.readline() == b"\n"
    found = json.loads(line[6:])
    assert (found["model"], found["event"], found["data"]["status"]) == ("chat", "status_change", "loaded")
    assert found["data"]["info"]["meta"]["n_ctx"] == 512 and "secret" not in line.decode()
    answer.close()
    connection.close()
    assert Upstream.left.wait(10)


def test_who_follows_events_takes_no_place_of_who_asks_for_the_list(calls: Path, upstream: str) -> None:
    held = [connected(calls) for _ in range(STREAMS)]
    for each in held:
        each.request("GET", "/models/sse", headers={"X-Paddock-Upstream": upstream})
    opened = [each.getresponse() for each in held]
    assert {each.status for each in opened} == {200}
    assert ask(calls, upstream, "/models/sse")[0] == 503
    assert ask(calls, upstream, "/models")[0] == 200
    opened[0].close()
    held[0].close()
    assert Upstream.left.wait(10)
    until = time.monotonic() + 10  # the server hears of it first
    while (status := followed(calls, upstream)) == 503 and time.monotonic() < until:
        time.sleep(0.05)
    assert status == 200
    for answer, each in zip(opened, held, strict=True):
        answer.close()
        each.close()


ANY_JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=4),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["data", "id", "status", "args", "meta", "architecture", "error", "x"]), inner)
    ),
    max_leaves=12,
)


@given(ANY_JSON)
def test_whatever_a_server_says_is_answered_and_nothing_unnamed_gets_through(said: Any) -> None:
    for look in (answers.models, answers.props, answers.event, answers.error, lambda each: answers.together([answers.models(each)] * 2)):
        assert '"args"' not in json.dumps(look(said)) and '"x":' not in json.dumps(look(said))


def test_it_runs_as_on_a_host_with_the_socket_that_it_is_handed(tmp_path: Path, upstream: str) -> None:
    """The files of the package alone, under another name, with the machine's own Python."""
    for path in PACKAGE.glob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))
    shutil.copytree(PACKAGE, tmp_path / "program", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "list.sock"))
        listener.listen()
        hand_over = f"exec 3<&0; exec /usr/bin/env -i python3 -I -B {tmp_path}/program"
        with subprocess.Popen(["bash", "-c", hand_over], stdin=listener, cwd="/") as process:
            try:
                assert "chat" in listed(tmp_path / "list.sock", upstream)
            finally:
                process.terminate()
    assert not list(tmp_path.rglob("__pycache__"))

"""Whom the admin endpoint answers, over a real connection: the rest it refuses, in words, before it does anything."""

from __future__ import annotations

import getpass
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from urllib.parse import urlsplit

import pytest

from services.admin import server as service
from services.admin.actions import Admin
from services.admin.configuration import Server
from services.admin.llama_server import ask
from services.admin.server import CALLS, Calls

KEY = "sk-of-the-endpoint-and-nobody-else"
PRESETS = "[*]\nctx-size = 512\n\n[chat]\nmodel = /none\nctx-size = 1024\n"
PROXY = {"Authorization": f"Bearer {KEY}", "X-Paddock-Client": "laptop"}
CHANGE = {**PROXY, "Content-Type": "application/json", "X-Paddock-Request": "1"}
ASKED = json.dumps({"model": "chat", "size": 2048})


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    """An endpoint whose router does not run."""
    (tmp_path / "presets.ini").write_text(PRESETS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    servers = (Server("llama-server.service", nobody, ("chat",), True), Server("llama-server-one.service", nobody, ("one",), False))
    admin, room = Admin(servers, tmp_path / "presets.ini", notes=tmp_path), threading.BoundedSemaphore(CALLS)
    made = Calls(socket.create_server(("127.0.0.1", 0)), admin, KEY, room)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def call(calls: Calls, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", calls.server_address[1], timeout=20)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def raw(calls: Calls, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", calls.server_address[1]), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def presets(calls: Calls) -> str:
    return calls.admin.presets.read_text()


def test_the_presets_are_shown_as_they_are(calls: Calls) -> None:
    assert call(calls, "GET", "/paddock/admin/preset", PROXY) == (200, PRESETS)


@pytest.mark.parametrize(
    "authorization", ["", KEY, "Bearer ", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"bearer {KEY}", f"Basic {KEY}", "Bearer \xff"]
)
def test_without_the_key_there_is_nothing_to_be_had(calls: Calls, authorization: str) -> None:
    for method, path in (("GET", "/preset"), ("POST", "/ctx"), ("POST", "/restart"), ("GET", "/nothing")):
        status, text = call(calls, method, f"/paddock/admin{path}", {**CHANGE, "Authorization": authorization}, ASKED)
        assert (status, list(json.loads(text))) == (401, ["error"])
    assert presets(calls) == PRESETS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**CHANGE, "Origin": "https://evil.example"}, 403),
        ({**CHANGE, "Origin": "null"}, 403),
        ({**CHANGE, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**CHANGE, "Sec-Fetch-Site": "same-site"}, 403),
        ({**PROXY, "Content-Type": "application/json"}, 403),
        ({**CHANGE, "X-Paddock-Request": "0"}, 403),
        ({**CHANGE, "Content-Type": "text/plain"}, 415),
        ({**CHANGE, "Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_what_a_web_page_could_send_changes_nothing(calls: Calls, headers: dict[str, str], status: int) -> None:
    for path in ("ctx", "restart"):
        answered, text = call(calls, "POST", f"/paddock/admin/{path}", headers, ASKED)
        assert (answered, json.loads(text)["error"]["message"] != "") == (status, True)
    assert presets(calls) == PRESETS


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/preset"),
        ("GET", "/paddock/admin"),
        ("GET", "/paddock/admin/preset/"),
        ("GET", "/paddock/admin/../admin/preset"),
        ("GET", "/paddock/admin/ctx"),
        ("GET", "/paddock/admin/restart"),
        ("POST", "/paddock/admin/preset"),
        ("POST", "/paddock/admin/ctx%2f"),
    ],
)
def test_there_is_nothing_else(calls: Calls, method: str, path: str) -> None:
    assert call(calls, method, path, CHANGE, ASKED if method == "POST" else None)[0] == 404
    assert presets(calls) == PRESETS


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"])
def test_other_methods_are_not_known(calls: Calls, method: str) -> None:
    assert call(calls, method, "/paddock/admin/preset", CHANGE)[0] == 501


def test_the_answer_to_head_is_a_head(calls: Calls) -> None:
    head, _, body = raw(calls, b"HEAD /paddock/admin/preset HTTP/1.1\r\nHost: ai\r\n\r\n").partition(b"\r\n\r\n")
    assert b" 501 " in head.splitlines()[0] and body == b""


@pytest.mark.parametrize(
    "rest", [b"/paddock/admin/preset HTTP/9", b"/paddock/admin/preset", b"/" + b"x" * 70000 + b" HTTP/1.1", b"/ a HTTP/1.1"]
)
def test_no_head_gets_a_body_not_even_one_that_is_no_request(calls: Calls, rest: bytes) -> None:
    head, _, body = raw(calls, b"HEAD " + rest + b"\r\nHost: ai\r\n\r\n").partition(b"\r\n\r\n")
    assert b"{" not in head and body == b""


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        ("Content-Length: 5000", b" " * 5000, 413),
        ("Content-Length: 999999999", b"", 413),
        ("Content-Length: -1", b"", 411),
        ("Content-Length: ten", b"", 411),
        ("X-Nothing: 1", b"", 411),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", 411),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", b"{}", 411),
        ("Content-Length: 0", b"", 400),
        ("Content-Length: 3", b"\xff\xfe\xfd", 400),
        ("Content-Length: 4", b"null", 400),
        ("Content-Length: 4000", b"[" * 4000, 400),
    ],
)
def test_a_body_is_whole_small_and_an_object(calls: Calls, length: str, body: bytes, status: int) -> None:
    headers = "\r\n".join(f"{name}: {value}" for name, value in CHANGE.items())
    answer = raw(calls, f"POST /paddock/admin/ctx HTTP/1.1\r\n{headers}\r\n{length}\r\n\r\n".encode() + body)
    assert answer.startswith(f"HTTP/1.0 {status} ".encode()) or answer.startswith(f"HTTP/1.0 {status}\r".encode()), answer[:80]
    assert presets(calls) == PRESETS


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", b"\r\n\r\n"]
)
def test_what_is_no_request_ends_that_connection_and_nothing_else(calls: Calls, nonsense: bytes) -> None:
    assert b" 200" not in raw(calls, nonsense)[:20]
    assert call(calls, "GET", "/paddock/admin/preset", PROXY)[0] == 200


def test_a_router_that_does_not_run_has_it_when_it_starts(calls: Calls) -> None:
    status, text = call(calls, "POST", "/paddock/admin/ctx", CHANGE, ASKED)
    assert (status, json.loads(text)["was"]) == (200, 1024)
    assert "ctx-size = 2048" in presets(calls) and "# Changed by laptop, " in presets(calls)


@pytest.mark.parametrize("nonsense", [b"[]", b"{}", b"no JSON", b'{"data": [{"id": "chat"}]}'])
def test_a_router_that_answers_like_no_llama_server_is_told_in_words(calls: Calls, nonsense: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", urlsplit(calls.admin.servers[0].url).port or 0))
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + nonsense

    def router() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)

    thread = threading.Thread(target=router)
    thread.start()
    status, text = call(calls, "POST", "/paddock/admin/ctx", CHANGE, ASKED)
    thread.join()
    assert status == 500 and json.loads(text)["error"]["message"], text


def test_what_it_has_already_changes_nothing(calls: Calls) -> None:
    status, text = call(calls, "POST", "/paddock/admin/ctx", CHANGE, json.dumps({"model": "chat", "size": 1024}))
    assert (status, json.loads(text)["note"], presets(calls)) == (200, "chat has that already.", PRESETS)


def test_the_note_that_the_router_runs_what_is_declared_is_taken_back(calls: Calls) -> None:
    note = calls.admin.notes / "llama-server.service.started"
    note.symlink_to("0123:4567")
    assert call(calls, "POST", "/paddock/admin/ctx", CHANGE, ASKED)[0] == 200
    assert not note.is_symlink()


def test_a_name_is_believed_of_who_knows_the_key_and_only_one_that_a_client_can_have(
    calls: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    for headers in (PROXY, {**PROXY, "Authorization": "Bearer no"}, {**PROXY, "X-Paddock-Client": "laptop 200 forged"}):
        call(calls, "GET", "/paddock/admin/preset?secret=word", headers)
    call(calls, "GET", "/paddock/admin/else%0aroot:", PROXY)
    told = capfd.readouterr().out
    assert [line.partition(":")[0] for line in told.splitlines()] == ["<6>laptop", "<6>somebody", "<6>somebody", "<6>laptop"]
    assert not any(each in told for each in (KEY, "forged", "word", "root"))


def test_who_never_ends_a_request_is_hung_up_on_and_keeps_nobody_out(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REQUEST_S", 2)
    slow = [socket.create_connection(("127.0.0.1", calls.server_address[1]), timeout=20) for _ in range(CALLS)]
    for each in slow:
        each.sendall(b"GET /paddock/admin/preset HTTP/1.1\r\n")
    assert all(b"200" not in each.recv(100) for each in slow)
    for each in slow:
        each.close()
    assert call(calls, "GET", "/paddock/admin/preset", PROXY)[0] == 200


class Answers(BaseHTTPRequestHandler):
    """A llama-server that says what key it was shown."""

    def do_GET(self) -> None:
        data = json.dumps({"shown": self.headers.get("Authorization", "")}).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_a_server_is_asked_by_its_unix_socket_and_shown_the_key(tmp_path: Path) -> None:
    with UnixStreamServer(str(tmp_path / "up.sock"), Answers) as listening:
        threading.Thread(target=listening.handle_request, daemon=True).start()
        server = Server("llama-server.service", f"unix:{tmp_path}/up.sock", ("chat",), True)
        assert json.loads(ask(server, KEY, "/health")) == {"shown": f"Bearer {KEY}"}


@pytest.mark.parametrize(("account", "shown"), [(getpass.getuser(), True), ("games", False)])
def test_over_tcp_the_key_is_shown_to_the_servers_account_alone(account: str, shown: bool) -> None:
    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.handle_request, daemon=True).start()
        server = Server("llama-server.service", f"http://127.0.0.1:{listening.server_address[1]}", ("chat",), True, account)
        assert json.loads(ask(server, KEY, "/health"))["shown"] == (f"Bearer {KEY}" if shown else "")

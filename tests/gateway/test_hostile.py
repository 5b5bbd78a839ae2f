"""Callers and back ends that mean harm, or do not know better. Each gets its own words and status, never a 500; afterwards nothing is left
of them: no slot, no connection, no memory; and the gateway answers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.hostile import FAIL, GARBAGE, PASS, Hostile, hostile
from tests.gateway.process import Gateway, back_end, key_of, running
from tests.share import WHOLE, spread

CHAT = "/v1/chat/completions"
MASTER = "sk-master-of-a-test"
LARGEST_MIB = 256
"""Of the gateway, at any time. It has 51 MiB at its start; an answer may have 64 MiB, and is joined once."""
LEFT_MIB = 176
"""After all of it. The threads that take large bodies apart keep what they once had, and no more after the tenth than after the first."""
CONNECTIONS = 600


@dataclass
class Place:
    gateway: Gateway
    hostile: Hostile
    descriptors: int
    """Open ones at the start."""

    def raw(self, sent: bytes, within_s: float = 10.0) -> bytes:
        """What a connection answers to these bytes until it is closed. The rest is not sent where it is closed before."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=within_s) as connection:
            with suppress(ConnectionError):
                connection.sendall(sent)
            return received(connection)

    def post(self, body: object, path: str = CHAT, key: str = key_of("anna"), **headers: str) -> tuple[int, bytes]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)) as connection:
            connection.request("POST", path, raw, {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def mib(self) -> int:
        """Resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) // 1024

    def open(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    @property
    def pid(self) -> int:
        assert self.gateway.process
        return self.gateway.process.pid


def chat(model: str = "tiny", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, **more}


def received(connection: socket.socket) -> bytes:
    found = []
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            found.append(piece)
    return b"".join(found)


def until(true: Callable[[], bool], within_s: float = 20.0) -> bool:
    ends = time.monotonic() + within_s
    while not (found := true()) and time.monotonic() < ends:
        time.sleep(0.05)
    return found


def error_of(answer: bytes) -> str:
    """The words of an answer's JSON, in OpenAI's shape or FastAPI's."""
    said = json.loads(answer)
    return str(said["error"]["message"] if "error" in said else said["detail"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "master").write_text(MASTER + "\n")
    with hostile() as back_ends, back_end(4, "--token-ms", "2") as good:
        urls = {"tiny": good, **back_ends.urls}
        configuration = {
            "backends": {name: {"url": url} for name, url in urls.items()},
            "models": {name: {"targets": [{"backend": name, "model": "tiny"}]} for name in urls},
            "health": {"every_s": 600, "failures": 10_000, "retries": 0},
            "queue": {"length": 64, "per_user": 16, "wait_s": 60},
            "pi": {"model": "tiny", "keys_generate": {"networks": ["127.0.0.0/8"]}},
            "master_key_file": str(directory / "master"),
            "access_log": True,
            "body_mib": 8,
            "body_s": 1.5,
            "head_s": 1.5,
            "stalled_s": 1.0,
            "connections": CONNECTIONS,
        }
        with running(directory, configuration, {name: {} for name in ("anna", "boris")}) as gateway:
            found = Place(gateway, back_ends, 0)
            assert found.post(chat())[0] == 200  # what is opened once, is open
            found.descriptors = found.open()
            yield found


@pytest.fixture(autouse=True)
def as_before(place: Place) -> Iterator[None]:
    """After each test the gateway answers, holds no slot, and has told of no error of its own."""
    yield
    assert until(lambda: (said := place.gateway.status())["waiting"] == said["running"] == 0)
    assert place.post(chat())[0] == 200
    assert '"exception"' not in place.gateway.log.read_text()
    assert place.mib() < LARGEST_MIB


def head(*lines: str, target: str = CHAT, method: str = "POST") -> bytes:
    said = [f"{method} {target} HTTP/1.1", "Host: gateway.home.example", f"Authorization: Bearer {key_of('anna')}", *lines]
    return "\r\n".join([*said, "", ""]).encode("latin-1")


BODY = json.dumps(chat()).encode()
SMUGGLED = b"GET /admin/status HTTP/1.1\r\nHost: x\r\n\r\n"
HTTP: dict[str, tuple[bytes, int]] = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    "no-http": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "nothing-but-lines": (b"\r\n" * 40_000 + b"x\r\n\r\n", 400),
    "lf-only": (b"POST /v1/chat/completions HTTP/1.1\nHost: x\n\n", 400),
    "no-version": (b"GET /v1/models\r\n\r\n", 401),
    "nul-in-a-name": (head("X\0: 1"), 400),
    "nul-in-a-value": (head("X: a\0b"), 400),
    "nul-in-the-path": (head("Connection: close", target="/v1/\0models", method="GET"), 400),
    "folded": (head("X-A: 1", " continued", "Content-Length: 0"), 400),
    "space-before-the-colon": (head("Content-Length : 0"), 400),
    "two-lengths": (head("Content-Length: 4", "Content-Length: 90") + BODY, 400),
    "twice-the-same-length": (head(f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}") + BODY, 400),
    "lengths-in-a-list": (head("Content-Length: 4, 4") + BODY, 400),
    "length-with-a-plus": (head("Content-Length: +4") + BODY, 400),
    "length-in-hex": (head("Content-Length: 0x10") + BODY, 400),
    "negative-length": (head("Content-Length: -1") + BODY, 400),
    "length-beyond-64-bits": (head("Content-Length: 18446744073709551617") + BODY, 400),
    "length-and-chunks": (head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SMUGGLED, 400),
    "chunks-and-length": (head("Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n" + SMUGGLED, 400),
    "unknown-coding": (head("Transfer-Encoding: cow") + BODY, 400),
    "chunked-is-not-last": (head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", 400),
    "two-codings": (head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n", 400),
    "chunk-without-a-size": (head("Transfer-Encoding: chunked") + b"\r\n\r\n", 400),
    "chunk-of-minus-one": (head("Transfer-Encoding: chunked") + b"-1\r\n\r\n", 400),
    "chunk-too-large": (head("Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n", 400),
    "chunk-longer-than-said": (head("Transfer-Encoding: chunked") + b"2\r\n{}}\r\n0\r\n\r\n", 400),
    "long-line": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 400),
    "long-header": (head("X-A: " + "x" * 100_000), 400),
    "many-headers": (head(*(f"X-{number}: 1" for number in range(10_000))), 400),
    "megabytes-of-headers": (head(*("X-A: " + "x" * 4000 for _ in range(2_000))), 400),
    "upgrade": (
        head("Connection: upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13", target="/v1/models", method="GET"),
        200,
    ),
    "connect": (head("Connection: close", target="192.0.2.1:22", method="CONNECT"), 404),
    "another-host": (head("Connection: close", target="http://192.0.2.1/slots", method="GET"), 404),
    "packed-nonsense": (head("Connection: close", "Content-Encoding: gzip", "Content-Length: 4") + b"abcd", 400),
    "unknown-packing": (head("Connection: close", "Content-Encoding: zip", "Content-Length: 4") + b"abcd", 400),
    "header-that-is-no-utf-8": (head("Connection: close", "X-A: \xff\xfe", "Content-Length: 2") + b"{}", 400),
    "key-that-is-no-utf-8": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: \xff\xfe\r\n\r\n", 401),
    "key-of-8000": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " + b"k" * 8000 + b"\r\n\r\n", 401),
}
"""Name → what is sent, and the status of the first answer."""


@pytest.mark.parametrize("name", HTTP)
def test_http_that_is_wrong_is_refused_in_words(place: Place, name: str) -> None:
    sent, status = HTTP[name]
    answer = place.raw(sent)
    assert re.match(rb"HTTP/\d\.\d %d " % status, answer), answer[:300]
    assert answer.count(b"\r\nContent-Type: ") == 1, "what came behind it was not taken for a request"
    if status >= 400:
        assert error_of(answer.partition(b"\r\n\r\n")[2])


def test_chunk_extensions_and_trailers_are_dropped(place: Place) -> None:
    chunks = b'%x;a="b"\r\n%s\r\n0\r\nAuthorization: Bearer sk-other\r\n\r\n' % (len(BODY), BODY)
    answer = place.raw(head("Connection: close", "Content-Type: application/json", "Transfer-Encoding: chunked") + chunks)
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]


def test_requests_behind_each_other_are_answered_in_order(place: Place) -> None:
    one = head("Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY
    answer = place.raw(one * 100 + head("Connection: close", method="GET", target="/v1/models"), within_s=60)
    assert answer.count(b"HTTP/1.1 200 OK") == 101


JSON: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "no-utf-8": (b'{"model": "tiny\xff"}', 400),
    "half-a-surrogate": (b'{"model": "\\ud800"}', 400),
    "byte-order-mark": (b"\xef\xbb\xbf" + BODY, 400),
    "utf-16": (BODY.decode().encode("utf-16"), 400),
    "nested-lists": (b'{"model":"tiny","messages":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", 400),
    "nested-objects": (b'{"model":"tiny","messages":' + b'{"a":' * 500_000 + b"1" + b"}" * 500_000 + b"}", 400),
    "never-closed": (b"[" * 4_000_000, 400),
    "nan": (b'{"model": "tiny", "messages": [], "temperature": NaN}', 400),
    "infinity": (b'{"model": "tiny", "messages": [], "temperature": -Infinity}', 400),
    "million-members": (b'{"model":"tiny",' + b",".join(b'"%x":0' % number for number in range(1_000_000)) + b"}", 413),
    "model-is-an-object": (b'{"model": {}}', 400),
    "too-large": (b" " * (9 * 1024 * 1024), 413),
    "unknown-model": (json.dumps(chat("tny")).encode(), 404),
    "long-model": (json.dumps(chat("x" * 1_000_000)).encode(), 404),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_is_wrong_is_refused_in_words(place: Place, name: str) -> None:
    raw, status = JSON[name]
    found, answer = place.post(raw)
    assert found == status, answer[:300]
    assert len(error_of(answer)) < 1000


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "tiny", "max_tokens": 4, "model": "html", "messages": [], "messages": [{"role": "user", "content": "Hi"}]}',
        b'{"model": "tiny", "messages": [], "max_tokens": ' + b"9" * 100_000 + b"}",
        b'{"model": "tiny", "messages": [], "max_tokens": -1e999}',
        b'{"model": "tiny", "max_tokens": 4, "messages": ' + json.dumps([{"role": "user", "content": "x"}] * 40_000).encode() + b"}",
        b'{"model": "tiny", "max_tokens": 4, "messages": [1, null, "x", {"role": 7}, {"content": {}}]}',
        b'{"model": "tiny", "max_tokens": 4, "messages": "none"}',
        b'{"model": "tiny", "max_tokens": 4, "messages": [], "tools": [{}], "functions": 7, "function_call": []}',
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/completions", "/generate", "/v1/messages/count_tokens"])
def test_json_that_is_odd_gets_an_answer_or_words(place: Place, raw: bytes, path: str) -> None:
    status, answer = place.post(raw, path)
    assert status < 500 or status == 502, answer[:300]
    assert b"internal error" not in answer


def test_an_unknown_model_is_told_with_the_nearest_name(place: Place) -> None:
    assert 'Did you mean "tiny"?' in error_of(place.post(chat("tny"))[1])


def test_a_key_in_the_address_is_refused_and_written_nowhere(place: Place) -> None:
    secret = "sk-in-the-address-0123456789"
    for target in (f"{CHAT}?key={secret}", f"/generate?api_key={secret}", f"/v1/messages?x=1&token={secret}", f"/none?key={secret}"):
        answer = place.raw(head("Connection: close", "Content-Length: 2", target=target) + b"{}")
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
        assert secret.encode() not in answer
    time.sleep(0.5)
    assert secret not in place.gateway.log.read_text()
    assert all(secret.encode() not in file.read_bytes() for file in place.gateway.directory.rglob("*") if file.is_file())
    assert place.gateway.rows("SELECT count(*) FROM llama_requests WHERE path LIKE '%?%'") == [(0,)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", FAIL)
def test_a_back_end_that_gives_no_answer_is_told_of(place: Place, name: str, stream: bool) -> None:
    for path in (CHAT, "/v1/messages"):
        status, answer = place.post(chat(name, stream=stream), path)
        assert status == 502 and FAIL[name][1] in error_of(answer), answer[:300]
    assert "/elsewhere" not in place.hostile.paths, "a redirect was followed"


@pytest.mark.parametrize("name", PASS)
def test_an_answer_that_is_odd_is_an_answer(place: Place, name: str) -> None:
    for path in (CHAT, "/v1/messages"):
        for stream in (True, False):
            status, answer = place.post(chat(name, stream=stream), path)
            assert status == 200 and b"Hello" in answer and b"error" not in answer, answer[:300]


@pytest.mark.parametrize("name", GARBAGE)
def test_events_that_make_no_answer_are_told_of(place: Place, name: str) -> None:
    """A caller that wants a stream gets them as they are; one who wants an answer, or it in another format, hears what is wrong."""
    for path in (CHAT, "/v1/completions", "/v1/responses", "/v1/messages"):
        body = chat(name, prompt="Hi", input="Hi")
        assert place.post(body | {"stream": True}, path)[0] == 200
        status, answer = place.post(body | {"stream": False}, path)
        assert status == 502 and error_of(answer), answer[:300]
        assert b"internal error" not in answer
    assert b"event: error" in place.post(chat(name, stream=True), "/v1/messages")[1]


@pytest.mark.parametrize("name", ["silent", "half"])
@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_a_back_end_that_hangs_frees_its_slot(place: Place, name: str, stream: bool) -> None:
    raw = json.dumps(chat(name, stream=stream)).encode()
    with socket.create_connection(("127.0.0.1", place.gateway.port)) as connection:
        connection.sendall(head("Content-Type: application/json", f"Content-Length: {len(raw)}") + raw)
        assert until(lambda: place.hostile.open == 1)
    assert until(lambda: place.hostile.open == 0)


def test_a_head_and_a_body_that_drip_end_in_bounded_time(place: Place) -> None:
    slow = [
        (b"POST /v1/chat/completions HTTP/1.1\r\n", b"X-A: b\r\n"),
        (head("Content-Type: application/json", "Content-Length: 100000"), b" "),
        (head("Content-Type: application/json", "Transfer-Encoding: chunked"), b"1\r\n \r\n"),
        (head("Content-Length: 100000", target="/generate"), b" "),
    ]
    connections = [socket.create_connection(("127.0.0.1", place.gateway.port)) for _ in slow]
    answers = [b"" for _ in slow]
    ends = time.monotonic() + 30
    for connection, (begin, _) in zip(connections, slow, strict=True):
        connection.sendall(begin)
        connection.settimeout(0.02)
    while not all(answers) and time.monotonic() < ends:
        for at, (connection, (_, drop)) in enumerate(zip(connections, slow, strict=True)):
            with suppress(TimeoutError):
                answers[at] = answers[at] or connection.recv(65536)
            with suppress(ConnectionError):
                connection.sendall(drop)
    for connection in connections:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers), answers


def test_a_caller_that_takes_nothing_of_its_stream_loses_its_slot(place: Place) -> None:
    raw = json.dumps(chat("pours", stream=True)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", place.gateway.port))
        connection.sendall(head("Content-Type: application/json", f"Content-Length: {len(raw)}") + raw)
        assert until(lambda: place.hostile.open == 1)
        assert until(lambda: place.hostile.open == 0), "it is still connected, and its slot is free"


def test_thousands_of_connections_that_say_nothing_lock_nobody_out(place: Place) -> None:
    silent: list[socket.socket] = []
    try:
        for number in range(2000):
            silent.append(socket.create_connection(("127.0.0.1", place.gateway.port), timeout=20))
            if number % 500 == 499:
                assert place.post(chat())[0] == 200
                assert place.open() <= place.descriptors + CONNECTIONS + 8
    finally:
        for each in silent:
            each.close()


def test_thousands_of_unknown_keys_are_refused_and_a_known_one_is_not(place: Place) -> None:
    number = 5000 if WHOLE else 2000
    one = "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Api-Key: sk-{}\r\n{}\r\n"
    floods = [socket.create_connection(("127.0.0.1", place.gateway.port), timeout=60) for _ in range(100)]
    try:
        for at, flood in enumerate(floods):
            keys = "".join(one.format(f"{at}-{each}", "") for each in range(number // 100))
            flood.sendall((keys + one.format("last", "Connection: close\r\n")).encode())
        assert place.post(chat())[0] == 200
        refused = sum(received(flood).count(b"HTTP/1.1 401 ") for flood in floods)
        assert refused == number // 100 * 100 + 100
    finally:
        for flood in floods:
            flood.close()


def test_a_user_that_fills_the_queue_locks_nobody_out(place: Place) -> None:
    raw = json.dumps(chat(max_tokens=400, stream=True)).encode()
    waiting = []
    try:
        for _ in range(40):
            waiting.append(socket.create_connection(("127.0.0.1", place.gateway.port)))
            waiting[-1].sendall(head("Content-Type: application/json", f"Content-Length: {len(raw)}") + raw)
        assert until(lambda: place.gateway.status()["waiting"] == 16)
        assert place.post(chat())[0] == 429
        assert place.post(chat(), key=key_of("boris"))[0] == 200
    finally:
        for each in waiting:
            each.close()


def test_a_second_gateway_on_the_same_sqlite_file_is_refused_and_the_first_goes_on(place: Place, tmp_path: Path) -> None:
    more = {"database": f"sqlite:{place.gateway.directory}/gateway.db", "pepper_file": str(place.gateway.directory / "pepper")}
    second = Gateway(tmp_path, {**place.gateway.configuration, **more}, place.gateway.users)
    second.write()
    refused = second.command("serve")
    assert refused.returncode != 0 and "SQLite is for one gateway" in refused.stderr and "Traceback" not in refused.stderr


def test_nothing_is_left_of_all_of_it(place: Place) -> None:
    for name in spread("hostile back ends", sorted(FAIL), 10):
        place.post(chat(name))
    assert until(lambda: place.open() <= place.descriptors + 2), "file descriptors are as before"
    assert until(lambda: place.hostile.open == 0)
    assert until(lambda: place.mib() < LEFT_MIB), place.mib()
    assert place.gateway.rows("SELECT count(*) FROM llama_requests WHERE status_code = 500") == [(0,)]
    assert place.gateway.stop() == 0
    place.gateway.start()

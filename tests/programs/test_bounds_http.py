"""What comes over HTTP is bounded in bytes and in time. Each server is a real one, in this process."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from control.fetching.download import digest_at, fetched
from control.fetching.session import Session, TooSlow
from control.models.hugging_face import chosen, pinned
from inventory import bounds
from inventory.bounds import Bound, TooMuch
from inventory.errors import PaddockError
from inventory.model_components import Component
from inventory.model_sources import ModelSource
from services.admin import llama_server as of_admin
from services.admin.answers import Refusal
from services.admin.configuration import Server as AdminsServer
from tests.slow_server import OK, SLOW, answering, endless

SMALL = Bound("a test's answer", 100_000, 1.0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("what", SLOW)
def test_what_trickles_is_given_up(what: str, stream: bool) -> None:
    began = time.monotonic()
    with answering(SLOW[what]) as url, pytest.raises(TooSlow), Session(SMALL).get(url, stream=stream) as answer:
        for _ in answer.iter_content(1 << 16):
            pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "head",
    [OK + b"\r\n", OK + b"Content-Length: 900000000\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 900000000\r\n\r\n"],
    ids=["without a length", "longer than wanted", "a redirect"],
)
def test_a_body_beyond_its_bound_is_not_read_on(head: bytes) -> None:
    with answering(endless(head)) as url, pytest.raises(TooMuch, match="sends more than 100,000 bytes: a test's answer has no more"):
        _ = Session(SMALL).get(url).content


def test_a_body_that_is_packed_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < SMALL.size

    def send(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    with answering(send) as url, pytest.raises(TooMuch, match="compressed"):
        _ = Session(SMALL).get(url).content


def test_an_answer_in_its_bound_comes_whole() -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"4\r\nGGUF\r\n" * 3 + b"0\r\n\r\n")

    with answering(send) as url:
        assert Session(SMALL).get(url).content == b"GGUF" * 3


def test_a_download_beyond_its_bound_is_refused_and_a_digest_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "DOWNLOAD", SMALL)
    monkeypatch.setattr(bounds, "MODEL", SMALL)
    with answering(endless(OK + b"\r\n", b"GGUF" * 2048)) as url:
        with pytest.raises(TooMuch, match="sends more than"):
            fetched(f"{url}/x.tar.gz", "a" * 64, tmp_path, aside=tmp_path)
        with pytest.raises(TooMuch, match="sends more than"):
            digest_at(f"{url}/x.gguf")
    with answering(SLOW["a header"]) as url, pytest.raises(PaddockError, match="its answer is not there within 1 s"):
        digest_at(f"{url}/x.gguf")


MODEL = Component("small", "models.small", ModelSource(hf="org/Small-GGUF"))


def hub(monkeypatch: pytest.MonkeyPatch, url: str) -> Component:
    monkeypatch.setenv("HF_ENDPOINT", url)
    return MODEL


def listing(entries: list[dict[str, Any]], following: bool = False) -> Callable[[socket.socket], None]:
    """Answers as the hub's API does; `following` names itself as the next page."""
    asked = []

    def send(connection: socket.socket) -> None:
        asked.append(1)
        body = json.dumps({"sha": "0" * 40} if len(asked) == 1 else entries).encode()
        port = connection.getsockname()[1]
        link = b'Link: <http://127.0.0.1:%d/api/models/x/tree/x?cursor=1>; rel="next"\r\n' % port if following else b""
        connection.sendall(OK + link + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return send


ENTRY = {"type": "file", "path": "x.gguf", "size": 7}


@pytest.mark.parametrize(
    ("entries", "following"),
    [([ENTRY] * 200_000, False), ([ENTRY] * 1000, True), ([], True), ([{"type": "directory", "path": "x"}] * 1000, True)],
    ids=["200,000 at once", "pages without end", "empty pages", "folders"],
)
def test_a_repository_of_too_many_files_is_no_repository_of_models(
    entries: list[dict[str, Any]], following: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not entries:
        monkeypatch.setattr(bounds, "LISTING", replace(bounds.LISTING, items=20))
    with answering(listing(entries, following)) as url, pytest.raises(PaddockError, match=r"has more than [0-9,]+ files and folders"):
        pinned(hub(monkeypatch, url))


def test_a_list_that_is_nested_without_end_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(connection: socket.socket) -> None:
        body = b"[" * 100_000
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with answering(send) as url, pytest.raises(PaddockError, match="sends something else than a list of files"):
        pinned(hub(monkeypatch, url))


def test_names_of_many_files_are_sorted_out_in_no_time() -> None:
    """Each of them says that it has 99,999 parts, and each is another's later part by its name."""
    names = [f"{at}-00001-of-99999.gguf" for at in range(10_000)] + [f"m-{at:05}-of-00900.gguf" for at in range(1, 901)]
    began = time.monotonic()
    with pytest.raises(PaddockError, match="10001 models in org/Small-GGUF fit"):
        chosen(MODEL, names, "models.small.source.hf")
    assert time.monotonic() - began < 5


def admins(url: str) -> AdminsServer:
    return AdminsServer("llama-server.service", url, ("demo",), True)


def test_the_admin_endpoint_takes_no_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_admin, "ANSWER_S", 1)
    for what in ("a status line", "a header", "a body", "chunks"):
        began = time.monotonic()
        with answering(SLOW[what]) as url, pytest.raises((OSError, Refusal)):
            of_admin.ask(admins(url), "", "/models")
        assert time.monotonic() - began < 10
    with answering(endless(OK + b"\r\n")) as url, pytest.raises(Refusal, match="more than 16 MiB"):
        of_admin.ask(admins(url), "", "/models")

    def nested(connection: socket.socket) -> None:
        connection.sendall(OK + b"Connection: close\r\n\r\n" + b"[" * 100_000)

    with answering(nested) as url, pytest.raises(Refusal, match="does not answer like a llama-server"):
        of_admin.reads_presets(admins(url), "", "demo", 512)

"""What a host prints, sends and answers is bounded. The host is a real SSH server in this process, whose commands are real ones."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from control.ssh.reach import Reach  # isort: skip - first of all, for gevent
import paramiko
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import read_output_buffers

from control.servers.http import Asking, Stop
from control.ssh.output import take_no_more
from control.ssh.reach import Tunnelled
from inventory import bounds
from inventory.bounds import Bound, TooMuch
from inventory.errors import PaddockError
from roles.server import Server
from tests.slow_server import OK, SLOW, answering, endless
from tests.unit.control.loopback import Host, forward


class Files(paramiko.SFTPServerInterface):
    """Has one file: of the size that it says, or without end."""

    said, data = 0, b""

    def open(self, path: str, flags: int, attr: Any) -> paramiko.SFTPHandle:
        return Handle(self)


class Handle(paramiko.SFTPHandle):
    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files = files

    def stat(self) -> Any:
        attributes = paramiko.SFTPAttributes()
        attributes.st_size = Files.said
        return attributes

    def read(self, offset: int, length: int) -> bytes:
        return Files.data[offset : offset + length]


@pytest.fixture
def client() -> Iterator[paramiko.SSHClient]:
    here, there = socket.socketpair()
    server, host = paramiko.Transport(there), Host()
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
    server.start_server(threading.Event(), host)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.MissingHostKeyPolicy())
    transport = paramiko.Transport(here)
    transport.start_client()
    transport.auth_none("root")
    client._transport = transport  # type: ignore[attr-defined]
    threading.Thread(target=forward, args=(server, host), daemon=True).start()
    yield client
    transport.close()
    server.close()


class Connector:
    def __init__(self, client: paramiko.SSHClient) -> None:
        self.client = client


def printed(client: paramiko.SSHClient, command: str, timeout: int | None = None) -> tuple[int, list[str], list[str]]:
    """As pyinfra runs a command: its exit status, its output, its errors."""
    take_no_more(cast(SSHConnector, Connector(client)))
    _, stdout, stderr = client.exec_command(command)
    output = read_output_buffers(stdout, stderr, timeout=timeout, print_output=False, print_prefix="")
    return stdout.channel.recv_exit_status(), output.stdout_lines, output.stderr_lines


def test_what_a_command_prints_comes_whole(client: paramiko.SSHClient) -> None:
    status, lines, errors = printed(client, r"seq 100000; printf '\377 \n\n last' ; echo why >&2; exit 3")
    assert (status, errors) == (3, ["why"])
    assert lines == [*map(str, range(1, 100_001)), "� ", "", " last"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("yes an answer", "it prints more than 1 MiB or 20,000 lines: the rest was not read"),
        ("yes '' ", "it prints more than 1 MiB or 20,000 lines: the rest was not read"),
        ("tr '\\0' x </dev/zero", "a line of what it prints is longer than 64 KiB: the rest was not read"),
    ],
    ids=["bytes", "lines", "one line"],
)
def test_a_host_that_prints_without_end_has_failed(
    client: paramiko.SSHClient, command: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "HOST_OUTPUT", Bound("a test", 1 << 20, 60, items=20_000, of="lines", piece=1 << 16))
    status, lines, errors = printed(client, command)
    assert status != 0 and errors == [words]
    assert sum(map(len, lines)) <= 1 << 20


def test_a_command_that_does_not_end_has_failed(client: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HOST_OUTPUT", replace(bounds.HOST_OUTPUT, seconds=1.0))
    began = time.monotonic()
    status, _, errors = printed(client, "while :; do echo more; sleep 0.1; done")
    assert status != 0 and errors == ["it has not ended within 1 s: the rest was not read"]
    assert time.monotonic() - began < 10


def test_a_file_comes_whole_and_no_larger_than_an_artifact(client: paramiko.SSHClient, tmp_path: Path) -> None:
    connector = cast(SSHConnector, Connector(client))
    take_no_more(connector)
    files = connector.get_file_transfer_connection()
    assert files
    Files.said, Files.data = 100_000, bytes(100_000)
    with (tmp_path / "x").open("wb") as file:
        assert files.getfo("/x", file) == 100_000
    for size in (1 << 60, (1 << 64) - 1):
        Files.said = size
        with (tmp_path / "x").open("wb") as file, pytest.raises(TooMuch, match="an artifact, packed has 4 GiB at most"):
            files.getfo("/x", file)
    Files.said = 200_000
    with (tmp_path / "x").open("wb") as file, pytest.raises(TooMuch, match="100,000 bytes of 200,000 have come"):
        files.getfo("/x", file)


# llama-servers, asked through such a host


SERVER = Server("ai", "llama-server", "llama-server.service", "127.0.0.1:8080", ("demo",), "router", {})


class Reached:
    """As much of a Reach as asking needs."""

    secrets: dict[str, str] = {}

    def __init__(self, client: paramiko.SSHClient, url: str) -> None:
        self.client, self.where = client, ("127.0.0.1", int(url.rpartition(":")[2]))
        self.fleet = self

    def endpoint(self, server: Server, host: str) -> str:
        return f"127.0.0.1:{self.where[1]}"

    def http(self, host: str, address: str, port: int) -> Tunnelled:
        link = self.client.get_transport()
        assert link
        return Tunnelled(link.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0)), address, port)


def asking(client: paramiko.SSHClient, url: str, patience_s: float = 1.0) -> Asking:
    return Asking(cast(Reach, Reached(client, url)), SERVER, patience_s)


@pytest.mark.parametrize("what", [each for each in SLOW if each != "a redirect"])
def test_a_server_that_trickles_is_given_up(client: paramiko.SSHClient, what: str) -> None:
    began = time.monotonic()
    with answering(SLOW[what]) as url, pytest.raises(PaddockError, match="ai/llama-server: "):
        asking(client, url).get("/models")
    assert time.monotonic() - began < 10


def test_a_server_that_sends_without_end_is_given_up(client: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SERVER_ANSWER", Bound("a test", 1 << 20, 60))
    monkeypatch.setattr(bounds, "SERVER_STREAM", Bound("a test", 1 << 20, 60, piece=1 << 16, piece_of="event"))
    for head in (OK + b"\r\n", b"HTTP/1.1 500 No\r\n\r\n"):
        with answering(endless(head)) as url, pytest.raises(TooMuch, match="does not answer like a llama-server: it sends more than 1 MiB"):
            asking(client, url, 60).get("/models")
    with answering(endless(OK + b"\r\n")) as url, pytest.raises(TooMuch, match="more than 1 MiB in events of 64 KiB"):
        list(asking(client, url).stream("/v1/chat/completions", {}, Stop()))
    with answering(endless(OK + b"\r\n", b'data: {"x": 1}\n' * 100)) as url, pytest.raises(TooMuch, match="more than 1 MiB in events"):
        list(asking(client, url).stream("/v1/chat/completions", {}, Stop()))


@pytest.mark.parametrize("body", [b"[" * 100_000, b"data: " + b"[" * 100_000 + b"\n", b"data: what\n", b"data: 7\n"])
def test_a_server_that_answers_nonsense_is_told_in_words(client: paramiko.SSHClient, body: bytes) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with answering(send) as url:
        with pytest.raises(PaddockError, match="ai/llama-server: "):
            asking(client, url).get("/models")
        if body.startswith(b"data: "):
            with pytest.raises(PaddockError, match="ai/llama-server: "):
                list(asking(client, url).stream("/v1/chat/completions", {}, Stop()))


def test_a_streamed_answer_ends_in_time(client: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SERVER_STREAM", replace(bounds.SERVER_STREAM, seconds=1.0))
    for what in ("headers", "chunks"):
        with answering(SLOW[what]) as url, pytest.raises(PaddockError, match="has not come to its end within 1 s"):
            list(asking(client, url).stream("/v1/chat/completions", {}, Stop()))


def test_an_input_whose_connection_was_lost_goes_without_a_word(client: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch) -> None:
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    take_no_more(cast(SSHConnector, Connector(client)))
    stdin, *_ = client.exec_command("sleep 1")
    transport = client.get_transport()
    assert transport
    transport.packetizer.close()
    del stdin
    gc.collect()
    assert not unheard

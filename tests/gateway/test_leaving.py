"""A client that leaves frees its slot of a real llama-server, and its place, while others go on."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Llama
from tests.gateway.process import Gateway, key_of, running

ENDLESS: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True, "max_tokens": 1_000_000}
PATIENCE_S = 30.0


def connected(gateway: Gateway, body: dict[str, Any]) -> socket.socket:
    """A connection that has asked and reads nothing."""
    raw = json.dumps({"model": "tiny", **body}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key_of('ann')}\r\nContent-Type: application/json\r\n"
    found = socket.create_connection(("127.0.0.1", gateway.port))
    found.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return found


def reset(connection: socket.socket) -> None:
    """As a program that was killed leaves it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def another_caller(gateway: Gateway) -> Iterator[None]:
    """Who reads one endless stream after the other: beside it llama-server itself would not hear that an unstreamed caller has gone."""
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with connected(gateway, {**ENDLESS, "stream": True}) as stream:
                while not done.is_set() and stream.recv(65536):
                    pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def busy(url: str) -> int:
    with urllib.request.urlopen(f"{url}/slots", timeout=10) as answer:
        return sum(slot["is_processing"] for slot in json.load(answer))


def until_busy(url: str, slots: int) -> None:
    ends = time.monotonic() + PATIENCE_S
    while busy(url) != slots:
        assert time.monotonic() < ends, f"{busy(url)} slots are busy, and not {slots}"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_frees_its_slot_while_another_goes_on(llama: Llama, tmp_path: Path, stream: bool) -> None:
    url = llama.urls["one"]
    configuration = {
        "backends": {"one": {"url": url}},
        "models": {"tiny": {"targets": [{"backend": "one", "model": "tiny"}]}},
    }
    with running(tmp_path, configuration, {"ann": {}}) as gateway, another_caller(gateway):
        until_busy(url, 1)
        connection = connected(gateway, {**ENDLESS, "stream": stream})
        until_busy(url, 2)
        reset(connection)
        until_busy(url, 1)
    until_busy(url, 0)

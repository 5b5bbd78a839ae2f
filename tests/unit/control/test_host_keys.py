"""Hosts that are met for the first time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace

import pytest

from control.ssh.host_keys import pin_all
from control.ssh.links import Links
from control.state.fleet import FleetState
from inventory import bounds
from inventory.fleet import Host

PATIENCE_S = 10
"""Less than a scan takes of its own accord to give a silent host up."""


@pytest.fixture
def waiting() -> Iterator[tuple[Host, ...]]:
    """Hosts of which each answers, with no word of SSH, only once all have been asked."""
    all_asked = threading.Barrier(3)

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection):
            all_asked.wait(PATIENCE_S)
            connection.sendall(b"not of SSH\r\n" * 200)

    with ExitStack() as stack:
        listeners = [stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(3)]
        threads = [threading.Thread(target=answer, args=(each,), daemon=True) for each in listeners]
        for thread in threads:
            thread.start()
        yield tuple(
            Host.model_validate({"name": f"pea{number}", "address": "127.0.0.1", "port": each.getsockname()[1]})
            for number, each in enumerate(listeners)
        )
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not all_asked.broken, "one was asked after the other"


def links_to(hosts: Iterable[Host], state: FleetState) -> Links:
    return Links({host.name: host for host in hosts}, state)


def test_all_are_asked_at_a_time_and_told_in_their_order(waiting: tuple[Host, ...], state: FleetState) -> None:
    failures = pin_all(waiting, links_to(waiting, state), lambda question: pytest.fail(question))
    assert list(failures) == ["pea0", "pea1", "pea2"]
    assert all("cannot be reached" in why for why in failures.values())
    assert not state.known_hosts.exists()


MIB = 1 << 20
GREETING = b"SSH-2.0-host\r\n"


@contextmanager
def sending(first: bytes, more: bytes, pause_s: float = 0) -> Iterator[tuple[Host, list[int]]]:
    """A host that sends this for as long as it is listened to, and how many bytes that was."""
    sent = [0]

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection), suppress(OSError):
            connection.sendall(first)
            while sent[0] < 256 * MIB:
                connection.sendall(more)
                sent[0] += len(more)
                time.sleep(pause_s)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield Host.model_validate({"name": "pea", "address": "127.0.0.1", "port": listener.getsockname()[1]}), sent
        thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("first", "more", "words"),
    [
        (b"", bytes(1 << 16), "its greeting is longer than 64 KiB"),
        (GREETING + b"\x7f\xff\xff\xfc" + bytes(4), bytes(1 << 16), "it sends a packet that is larger than 256 KiB"),
    ],
    ids=["a greeting", "a packet"],
)
def test_of_a_host_that_sends_without_end_no_more_is_taken(first: bytes, more: bytes, words: str, state: FleetState) -> None:
    with sending(first, more) as (host, sent):
        failures = pin_all([host], links_to([host], state), lambda question: pytest.fail(question))
    assert words in failures["pea"] and sent[0] < 32 * MIB, "what sockets hold"


def test_a_host_that_greets_slowly_is_given_up(state: FleetState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SSH_GREETING", replace(bounds.SSH_GREETING, seconds=1))
    began = time.monotonic()
    with sending(b"", b"x", 0.1) as (host, _):
        failures = pin_all([host], links_to([host], state), lambda question: pytest.fail(question))
    assert "its greeting has not ended within 1 s" in failures["pea"] and time.monotonic() - began < PATIENCE_S

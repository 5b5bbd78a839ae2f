"""Hosts that are met for the first time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from control.ssh.host_keys import pin_all
from control.state.fleet import FleetState
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


def test_all_are_asked_at_a_time_and_told_in_their_order(waiting: tuple[Host, ...], state: FleetState) -> None:
    failures = pin_all(waiting, state, lambda question: pytest.fail(question))
    assert list(failures) == ["pea0", "pea1", "pea2"]
    assert all("cannot be reached" in why for why in failures.values())
    assert not state.known_hosts.exists()

"""Nothing on the way of a request waits but for the network: no file, no database, no lock, no name to look up."""

import asyncio
import sys
import threading
from typing import Any

import pytest

from paddock_gateway.proxy import handler, prepared
from tests.unit.gateway.proxy.gateway_under_test import BackendUnderTest, Places, gateway, run
from tests.unit.gateway.proxy.scripted import DONE, HELLO, USAGE, chat, chunk, streaming

WAITS = (
    "open",
    "sqlite3.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "subprocess.Popen",
    "os.system",
    "time.sleep",
    "os.listdir",
)
"""Audit events of what may wait: https://docs.python.org/3/library/audit_events.html."""

watched: list[str] | None = None


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and event in WAITS:
        watched.append(f"{event} {arguments[:1]}")


sys.addaudithook(_audited)  # stays for the life of the process, and does nothing outside of the test


@pytest.mark.parametrize("stream", [True, False])
def test_a_burst_of_requests_opens_nothing_and_waits_for_nothing(stream: bool) -> None:
    events = HELLO if stream else [*HELLO[:4], chunk(usage=USAGE), DONE]

    async def test() -> list[str]:
        global watched
        async with BackendUnderTest(streaming(*events)).serving() as backend, gateway(backend.url, places=Places(8)) as under:
            await under.post("/v1/chat/completions", chat(stream=stream))  # what is imported at the first request
            watched = found = []
            try:
                paths = ["/v1/chat/completions"] * 40 + ["/nothing", "/v1/models"]
                await asyncio.gather(*(under.post(path, chat(stream=stream)) for path in paths))
            finally:
                watched = None
            assert len([row for row in under.log.rows if row.status_code == 200]) == 41
            return found

    assert run(test()) == []


def test_a_large_body_is_read_apart_from_everybody_elses() -> None:
    async def test() -> None:
        names: set[str] = set()
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend, gateway(backend.url) as under:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(prepared, "prefixes", lambda *_: names.add(threading.current_thread().name) or ())
                for size in (10, handler.SMALL):
                    names.clear()
                    status, _, _ = await under.post("/v1/chat/completions", chat(messages=[{"role": "user", "content": "x" * size}]))
                    assert status == 200
                    assert (names == {"MainThread"}) == (size == 10)
        assert all(name.startswith("large bodies") for name in names)

    run(test())

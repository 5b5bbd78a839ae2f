"""Where the gateway listens, and how it ends."""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiohttp
import orjson
import pytest

from paddock_gateway.app import application
from paddock_gateway.contract import Parts, Users
from paddock_gateway.listening import BadAddress, Listen, addresses, parsed
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.server import LATE_S, serve
from paddock_gateway.settings import Backend, Configuration, Model, Target
from tests.unit.gateway.proxy.gateway_under_test import KEY, BackendUnderTest, Keyring, Places, Rows, run
from tests.unit.gateway.proxy.scripted import HELLO, chat, endless, streaming


@pytest.mark.parametrize(
    ("said", "listen"),
    [
        ("127.0.0.1:8001", Listen("127.0.0.1", 8001, False)),
        ("[::1]:8001", Listen("::1", 8001, False)),
        ("0.0.0.0:80", Listen("0.0.0.0", 80, False)),
        ("localhost:80", Listen("127.0.0.1", 80, False)),
        ("tailscale0:8001", Listen("tailscale0", 8001, True)),
    ],
)
def test_addresses_and_interfaces_are_told_apart(said: str, listen: Listen) -> None:
    assert parsed(said) == listen


@pytest.mark.parametrize(
    "said", ["8001", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "::1:8001", "gateway.home.example:80", "a b:1", ":1"]
)
def test_what_is_neither_is_refused(said: str) -> None:
    with pytest.raises(BadAddress, match="listen: "):
        parsed(said)


def test_an_interface_has_the_addresses_that_the_kernel_says() -> None:
    assert ("127.0.0.1", 0) in addresses("lo")
    if Path("/proc/net/if_inet6").exists() and " lo\n" in Path("/proc/net/if_inet6").read_text():
        assert ("::1", 0) in addresses("lo")
    assert addresses("nothing0") == frozenset()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def until_refused(port: int) -> None:
    with suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.002)


async def started(configuration: Configuration, places: Places) -> tuple[asyncio.Task[None], Rows]:
    log = Rows()
    upstream = HttpUpstream(configuration, places, log, log)
    parts = Parts(configuration, Keyring(), cast(Users, None), places, log, log, upstream)
    ready = asyncio.Event()
    task = asyncio.create_task(serve(configuration, application(parts), places, ready=ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return task, log


def settings(url: str, listen: str, drain_s: float = 5.0) -> Configuration:
    return Configuration(
        listen=(listen,),
        database="none",
        pepper_file="none",
        state="none",
        backends={"b0": Backend(url)},
        models={"small": Model((Target("b0", "small"),))},
        drain_s=drain_s,
    )


@pytest.mark.parametrize("interface", ["127.0.0.1", "lo"])
def test_a_stream_that_runs_is_finished_after_the_signal_and_nothing_new_is_accepted(interface: str) -> None:
    async def test() -> None:
        go_on, port = asyncio.Event(), free_port()

        async def answer(request: aiohttp.web.Request, raw: bytes) -> aiohttp.web.StreamResponse:
            response = aiohttp.web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(HELLO[0])
            await go_on.wait()
            await response.write(b"".join(HELLO[1:]))
            return response

        async with BackendUnderTest(answer).serving() as backend, aiohttp.ClientSession() as session:
            places = Places()
            task, log = await started(settings(backend.url, f"{interface}:{port}"), places)
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with session.post(url, json=chat(stream=True), headers={"x-api-key": KEY}) as response:
                assert await response.content.readuntil(b"\n\n") == HELLO[0]
                os.kill(os.getpid(), signal.SIGTERM)
                await until_refused(port)
                go_on.set()
                assert await response.content.read() == b"".join(HELLO[1:])
            await task
            assert [row.status_code for row in log.rows] == [200]

    run(test())


def test_who_has_got_in_before_the_end_gets_an_answer_however_late_its_body_comes_and_nobody_else_is_waited_for() -> None:
    async def test() -> None:
        port, body = free_port(), orjson.dumps(chat())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend:
            task, _ = await started(settings(backend.url, f"127.0.0.1:{port}"), Places())
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode())
            await writer.drain()
            os.kill(os.getpid(), signal.SIGTERM)
            await until_refused(port)
            await asyncio.sleep(LATE_S * 2)
            writer.write(body)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 OK")
            await task
            idle.close()

    run(test())


def test_what_takes_longer_than_the_drain_is_cut_off_and_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.server.CLOSE_S", 0.02)

    async def test() -> None:
        port = free_port()
        async with BackendUnderTest(endless(HELLO[0])).serving() as backend, aiohttp.ClientSession() as session:
            places = Places()
            task, log = await started(settings(backend.url, f"127.0.0.1:{port}", drain_s=0.02), places)
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with session.post(url, json=chat(stream=True), headers={"x-api-key": KEY}) as response:
                assert await response.content.readuntil(b"\n\n") == HELLO[0]
                os.kill(os.getpid(), signal.SIGTERM)
                await task
            assert [row.status_code for row in log.rows] == [499] and not places.running

    run(test())


def test_an_address_that_is_taken_is_told_at_the_start() -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            async with BackendUnderTest(streaming(*HELLO)).serving() as backend:
                task, _ = await started(settings(backend.url, f"127.0.0.1:{taken.getsockname()[1]}"), Places())
                with pytest.raises(OSError, match=r"cannot listen at 127\.0\.0\.1 port \d+: Address already in use"):
                    await task

    run(test())


def test_an_interface_is_followed_as_it_gets_and_loses_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock_gateway.server.FOLLOW_S", 0.005)
    now: frozenset[tuple[str, int]] = frozenset()
    monkeypatch.setattr("paddock_gateway.server.addresses", lambda name: now if name == "tailscale0" else frozenset())

    async def test() -> None:
        nonlocal now
        port = free_port()
        async with BackendUnderTest(streaming(*HELLO)).serving() as backend:
            task, _ = await started(settings(backend.url, f"tailscale0:{port}"), Places())

            async def answers(address: str) -> bool:
                try:
                    _, writer = await asyncio.open_connection(address, port)
                except OSError:
                    return False
                writer.close()
                return True

            assert not await answers("127.0.0.2")
            for address in ("127.0.0.2", "127.0.0.3"):
                now = frozenset({(address, 0)})
                while not await answers(address):
                    await asyncio.sleep(0.002)
            while await answers("127.0.0.2"):
                await asyncio.sleep(0.002)
            os.kill(os.getpid(), signal.SIGTERM)
            await task

    run(test())

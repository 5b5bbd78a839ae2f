"""A gateway over real sockets before back ends that do as they are told, all in one loop."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import aiohttp
import uvloop
from aiohttp import web

from paddock_gateway.app import application
from paddock_gateway.connections import Bounds, Runner
from paddock_gateway.contract import Account, Ask, BackendState, Figures, Forecast, Parts, Place, Row, Used, Users
from paddock_gateway.errors import Failure
from paddock_gateway.proxy.client import Patience
from paddock_gateway.proxy.upstream import HttpUpstream
from paddock_gateway.settings import Backend, Configuration, Health, Limits, Model, Target
from tests.unit.gateway.proxy.scripted import Answer

T = TypeVar("T")
KEY = "sk-anna"
ANNA = Account("anna", "k1", None, Limits())
BORIS = Account("boris", "k2", frozenset({"small", "fast"}), Limits())


def run(test: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(test, 20))


class Places:
    """A Dispatcher with slots and no fairness: the first back end that is not excluded and has a free slot."""

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.running: list[Place] = []
        self.asked: list[Ask] = []
        self.settled: list[tuple[Place, Used | None, bool]] = []
        self.states: list[tuple[str, BackendState]] = []
        self.free = asyncio.Condition()
        self.cache = True
        self.slot: int | None = 0
        self.draining = False
        self.failure: Failure | None = None

    async def place(self, ask: Ask) -> Place:
        self.asked.append(ask)
        if self.failure:
            raise self.failure
        up = dict(self.states)
        left = [(name, model) for name, model in ask.targets if name not in ask.exclude and (name not in up or up[name].up)]
        if not left:
            raise Failure(503, "No back end is left.", "no_backend")
        async with self.free:
            await self.free.wait_for(lambda: len(self.running) < self.slots)
            place = Place(left[0][0], left[0][1], self.slot, self.cache, 0.0, 0)
            self.running.append(place)
            return place

    def done(self, place: Place, used: Used | None, *, whole: bool) -> None:
        self.again(place)
        self.settled.append((place, used, whole))

    def again(self, place: Place) -> None:
        self.running = [each for each in self.running if each is not place]

        async def tell() -> None:
            async with self.free:
                self.free.notify_all()

        self.telling = asyncio.ensure_future(tell())

    def forecast(self, ask: Ask) -> Forecast:
        return Forecast(3, 1.5) if len(self.running) >= self.slots else Forecast(0, 0.0)

    def update(self, backend: str, state: BackendState) -> None:
        self.states.append((backend, state))

    def drain(self) -> None:
        self.draining = True

    def resume(self) -> None:
        self.draining = False

    async def idle(self) -> None:
        async with self.free:
            await self.free.wait_for(lambda: not self.running)

    def figures(self) -> Figures:
        return Figures(0, len(self.running))


class Keyring:
    def known(self, key: str) -> Account | None:
        return {KEY: ANNA, "sk-boris": BORIS}.get(key)

    async def account(self, key: str) -> Account:
        if key == "sk-late":
            return ANNA
        raise Failure(401, "The key is not known.", "unknown_key")


class Rows:
    """RequestLog and Observer."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.retries: list[str] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def answered(self, row: Row) -> None:
        pass

    def retried(self, backend: str) -> None:
        self.retries.append(backend)


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class BackendUnderTest:
    """`answer` is what every POST gets. `open` counts connections that are being answered; `left` those whose reader went."""

    answer: Answer
    asked: list[Asked] = field(default_factory=list)
    open: int = 0
    left: int = 0
    url: str = ""
    slots: int = 4

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response({"total_slots": self.slots, "model_path": "/srv/secret.gguf"})
        if request.path == "/v1/models":
            shown = {"id": "small", "object": "model", "meta": {"n_ctx": 512, "n_params": 7}, "path": "/srv/secret.gguf"}
            return web.json_response({"data": [shown]})
        raw = await request.content.read()  # of any size
        self.asked.append(Asked(request.path, dict(request.headers), raw))
        self.open += 1
        try:
            return await self.answer(request, raw)
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise
        finally:
            self.open -= 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[BackendUnderTest]:
        runner = web.ServerRunner(web.Server(self, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def raw_backend(answer: bytes, *, then: bytes = b"", hang: bool = False) -> AsyncIterator[str]:
    """Bytes of any kind, whatever is asked. `then` comes by itself, after them."""
    told = asyncio.Event()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        await writer.drain()
        if then:
            await asyncio.sleep(0.02)
            writer.write(then)
        if hang:
            await told.wait()
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        told.set()
        server.close()


class GatewayUnderTest:
    def __init__(self, url: str, places: Places, log: Rows, upstream: HttpUpstream) -> None:
        self.url, self.places, self.log, self.upstream = url, places, log, upstream
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))

    async def post(self, path: str, body: Any = None, *, key: str = KEY, **more: Any) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **more.pop("headers", {})}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        method = more.pop("method", "POST")
        async with self.session.request(method, self.url + path, data=data, headers=headers, **more) as response:
            return response.status, await response.read(), response.headers

    async def row(self) -> Row:
        """The newest, as soon as there is one."""
        while not self.log.rows:
            await asyncio.sleep(0.001)
        return self.log.rows[-1]

    async def raw(self, sent: bytes) -> bytes:
        """What a connection answers to these bytes."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def connection(self, path: str, body: Any, *, room: int = 0) -> socket.socket:
        """A connection that has sent its request and reads nothing. `room`: of its buffer, in bytes."""
        host, port = self.url.removeprefix("http://").split(":")
        found = socket.socket()
        found.setblocking(False)
        if room:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(found, (host, int(port)))
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(raw)}\r\n\r\n"
        await loop.sock_sendall(found, head.encode() + raw)
        return found


def reset(connection: socket.socket) -> None:
    """As a program that was killed leaves it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


@asynccontextmanager
async def gateway(
    *backends: str, places: Places | None = None, patience: Patience | None = None, **settings: Any
) -> AsyncIterator[GatewayUnderTest]:
    """Before the back ends at these addresses: each is a replica of `small` (alias `fast`); `large` is at the first, as `large.gguf`."""
    names = {f"b{number}": url for number, url in enumerate(backends)}
    configuration = Configuration(
        listen=("127.0.0.1:0",),
        database="sqlite:none",
        pepper_file="none",
        state="none",
        backends=settings.pop("declared", {name: Backend(url) for name, url in names.items()}),
        models={
            "small": Model(tuple(Target(name, "small") for name in names), aliases=("fast",)),
            "large": Model((Target("b0", "large.gguf"),)),
            **settings.pop("more", {}),
        },
        health=settings.pop("health", Health(every_s=600, failures=2, cooldown_s=600)),
        **settings,
    )
    places, log = places or Places(), Rows()
    upstream = HttpUpstream(configuration, places, log, log, patience)
    parts = Parts(configuration, Keyring(), cast(Users, None), places, log, log, upstream)
    bounds = Bounds(configuration.head_s, configuration.stalled_s, configuration.connections)
    runner = Runner(application(parts), bounds, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = GatewayUnderTest("http://{}:{}".format(*runner.addresses[0][:2]), places, log, upstream)
    try:
        yield found
    finally:
        await found.session.close()
        await runner.cleanup()

"""The gateway as a process: it listens where it is to, follows interfaces that come and go, and ends without losing what it accepted."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from paddock_gateway.connections import Bounds, Runner
from paddock_gateway.contract import Dispatcher
from paddock_gateway.listening import Listen, addresses, parsed
from paddock_gateway.settings import Configuration

log = logging.getLogger(__name__)

FOLLOW_S = 2.0
"""An interface is looked at so often."""

BACKLOG = 1024

FIRST_HELD = 3
"""The file descriptor of the first socket that systemd passes on."""

Held: TypeAlias = "dict[tuple[str, int], socket.socket]"
"""By address and port."""

LATE_S = 0.5
"""A connection that was taken a moment before the end may send its request so late, and still gets its answer."""

LOOK_S = 0.05
"""At the end, whether somebody is still being answered is looked at so often."""

CLOSE_S = 1.0
"""How long an answer that is done may take to be written at the end."""


async def serve(
    configuration: Configuration,
    app: web.Application,
    dispatcher: Dispatcher,
    *,
    others: Sequence[tuple[str, web.Application]] = (),
    ready: asyncio.Event | None = None,
) -> None:
    """Until SIGTERM or SIGINT. Then it accepts nothing more, and what runs or waits has `drain_s` to end. `others` are applications at
    addresses of their own, or at `unix:/…`: they answer until the end. `ready` is set when all addresses that are there are listened at.
    Raises BadAddress, and OSError where an address cannot be listened at."""
    bounds = Bounds(configuration.head_s, configuration.stalled_s, configuration.connections)
    async with AsyncExitStack() as stack:
        held = inherited()
        for where, other in others:
            await _listening(stack, other, [where], held, bounds)
        runner, following = await _listening(stack, app, configuration.listen, held, bounds)
        for unused in held.values():
            log.warning("systemd holds %s, at which the configuration does not listen.", unused.getsockname())
            unused.close()
        if ready:
            ready.set()
        await _told_to_end()
        await drained(runner, dispatcher, configuration.drain_s, following)


async def _listening(
    stack: AsyncExitStack, app: web.Application, wanted: Sequence[str], held: Held, bounds: Bounds
) -> tuple[Runner, list[asyncio.Task[None]]]:
    """Until the stack ends. The tasks follow interfaces. Takes out of `held` what is wanted."""
    runner = Runner(app, bounds, handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_S, keepalive_timeout=75.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    following: list[asyncio.Task[None]] = []
    stack.push_async_callback(_ended, following)
    for said in wanted:
        if said.startswith("unix:"):
            await web.SockSite(runner, bound_socket(Path(said[5:])), backlog=BACKLOG).start()
            continue
        listen = parsed(said)
        if listen.interface:
            follower = _Interface(runner, listen)
            await follower.look()
            following.append(asyncio.create_task(follower.follow()))
        else:
            own = held.pop((listen.host, listen.port), None) or bound(listen.host, listen.port)
            await web.SockSite(runner, own, backlog=BACKLOG).start()
    return runner, following


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def drained(runner: Runner, dispatcher: Dispatcher, within_s: float, following: list[asyncio.Task[None]]) -> None:
    for task in following:
        task.cancel()
    for site in list(runner.sites):
        await site.stop()
    await asyncio.sleep(LATE_S)
    try:
        await asyncio.wait_for(_answered(runner, dispatcher), within_s)
    except (TimeoutError, asyncio.TimeoutError):
        log.warning("Requests that took longer than %g s were cut off.", within_s)


async def _answered(runner: Runner, dispatcher: Dispatcher) -> None:
    """None is refused that has got in: its body may still be on its way. A connection ends once it waits for another request."""
    while runner.open():
        await asyncio.sleep(LOOK_S)
    dispatcher.drain()
    await dispatcher.idle()


async def _told_to_end() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        await told.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def inherited() -> Held:
    """The sockets that systemd holds for this process, sd_listen_fds(3); they are told of once."""
    told, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    if told != str(os.getpid()):
        return {}
    sockets = [socket.socket(fileno=each) for each in range(FIRST_HELD, FIRST_HELD + int(number))]
    for each in sockets:
        each.setblocking(False)
        os.set_inheritable(each.fileno(), False)
    return {(str(each.getsockname()[0]), int(each.getsockname()[1])): each for each in sockets}


def bound(address: str, port: int, scope: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.setblocking(False)
        found.bind((address, port, 0, scope) if family == socket.AF_INET6 else (address, port))
    except OSError as error:
        found.close()
        raise OSError(error.errno, f"cannot listen at {address} port {port}: {error.strerror}") from None
    return found


def bound_socket(path: Path) -> socket.socket:
    """For the owner and the group; what an earlier gateway has left there goes."""
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        found.setblocking(False)
        found.bind(str(path))
    except OSError as error:
        found.close()
        raise OSError(error.errno, f"cannot listen at {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    return found


class _Interface:
    """Listens at every address that an interface has, from when it has it until it has lost it."""

    def __init__(self, runner: web.BaseRunner, listen: Listen) -> None:
        self._runner, self._listen = runner, listen
        self._sites: dict[tuple[str, int], web.SockSite] = {}
        self._said: Mapping[tuple[str, int], str] = {}

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            await self.look()

    async def look(self) -> None:
        found = addresses(self._listen.host)
        for address in self._sites.keys() - found:
            await self._sites.pop(address).stop()
        failed = {}
        for address in found - self._sites.keys():
            try:
                site = web.SockSite(self._runner, bound(address[0], self._listen.port, address[1]), backlog=BACKLOG)
            except OSError as error:
                failed[address] = str(error)  # an address may be there a moment before it can be bound
                continue
            await site.start()
            self._sites[address] = site
            log.info("Listening at %s port %d.", address[0], self._listen.port)
        if failed and failed != self._said:
            log.warning("%s", "; ".join(failed.values()))
        self._said = failed

"""What stands before a llama-server: systemd holds its port, and HAProxy hands on what comes there.

Whoever asks for something that computes, while the server starts anew, waits in HAProxy until it is well again: with its request, of which
nothing has been sent on yet. So a restart costs a caller time, and no answer. Whoever only looks (`GET /health`) hears at once how it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from resources import File, Port, Resource, Service
from roles import tunnel
from roles.llama_server.settings import LlamaServerSettings
from roles.role import render
from roles.server import CALLERS, Server

DIRECTORY = "/etc/paddock/llama-server"

CONNECTIONS = 1024
"""At a time, to one server: who comes beyond that waits."""


def resources(server: Server, settings: LlamaServerSettings, listens: tuple[str, ...], port: Port) -> Iterator[Resource]:
    """The unit by which systemd holds the server's port, at each `ADDRESS:PORT` of `listens`, and HAProxy's, which another wait reloads."""
    listener = File(
        f"/etc/systemd/system/{server.listener}",
        render("llama_server/paddock-proxy.socket.j2", server=server.unit, listens=listens, socket=server.socket, callers=CALLERS),
    )
    text = render(
        "llama_server/proxy.cfg.j2",
        connections=CONNECTIONS,
        sockets=range(tunnel.FIRST_SOCKET, tunnel.FIRST_SOCKET + len(listens) + 1),
        own_socket=own_socket(server),
        open_socket=f"/run/{runtime(server)}/open.sock",
        figures=figures(server),
        wait_s=server.wait_s,
        idle_s=tunnel.IDLE_S,
    )
    configuration = File(f"{DIRECTORY}/{_name(server)}.cfg", text)
    unit = File(
        f"/etc/systemd/system/{_name(server)}.service",
        render(
            "llama_server/paddock-proxy.service.j2",
            server=server.unit,
            listener=server.listener,
            configuration=configuration.path,
            runtime=_name(server),
            connections=CONNECTIONS,
        ),
    )
    yield from tunnel.haproxy()
    yield from (listener, configuration, unit)
    cuts = f"what {server.unit} is answering breaks off, and what waits for it"
    valid = tunnel.validation(configuration.path)
    yield Service(server.listener, restarts=(listener,), ports=(port,), cuts=cuts)
    yield Service(f"{_name(server)}.service", restarts=(unit,), reloads=(configuration,), validate=(valid,), cuts=cuts)


def runtime(server: Server) -> str:
    """Its directory below /run, which is there while it runs."""
    return f"llama-server/{server.unit.removesuffix('.service')}"


def own_socket(server: Server) -> str:
    """Where it listens. A path that ends so is no address to llama-server (tools/server/server-http.cpp: start)."""
    return f"/run/{runtime(server)}/http.sock"


def figures(server: Server) -> str:
    """Where HAProxy says how many it has sent there are being answered."""
    return f"/run/{_name(server)}/figures.sock"


def _name(server: Server) -> str:
    return server.listener.removesuffix(".socket")

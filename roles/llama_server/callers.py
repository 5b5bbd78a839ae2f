"""When callers reach a llama-server: from when it is warm until it is to stop, whoever stops it. Its unit calls a script for that."""

from __future__ import annotations

from inventory.fleet import Fleet
from resources import File
from roles.llama_server import proxy
from roles.preset import purpose
from roles.role import render
from roles.server import Server

SCRIPT = f"{proxy.DIRECTORY}/callers.sh"


WARM_S = 60
"""How long the models that a router had before are loaded at most, before callers are let in all the same."""


def script() -> File:
    return File(SCRIPT, render("llama_server/callers.sh"), mode=0o755)


def admit(server: Server, fleet: Fleet) -> tuple[str, ...]:
    """What a start runs. Callers wait meanwhile, so that it takes half of their time at most, and a minute."""
    models = (f"{purpose(fleet.preset(server, name))}={name}" for name in server.models)
    seconds = max(1, min(WARM_S, server.wait_s // 2))
    return (SCRIPT, "admit", f"/run/{proxy.runtime(server)}", _loaded(server), str(seconds), server.kind, *models)


def drain(server: Server) -> tuple[str, ...]:
    """What a stop runs."""
    place = f"/run/{proxy.runtime(server)}"
    return (SCRIPT, "drain", place, _loaded(server), proxy.figures(server), str(server.drain_s), server.kind)


def _loaded(server: Server) -> str:
    return f"/run/paddock/loaded-{server.unit.removesuffix('.service')}"

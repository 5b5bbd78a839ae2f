"""The model list: the program beside Caddy that answers clients who are no administrators when they ask what models there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Resource, Service
from roles.role import address_of, is_address, render

DIRECTORY = "/etc/paddock/model-list"
UNIT = "paddock-model-list.service"
LISTENER = "paddock-model-list.socket"
SOCKET = "/run/paddock/model-list.sock"

TASKS = 128
"""Threads that take calls, and that follow events (services/caddy/server.py). Of several servers each is asked in a thread of its own."""


def model_list(sites: Sequence[tuple[str, ...]], knowledge: Knowledge, callers: str) -> Iterator[Resource]:
    """`sites` has for each site the `ADDRESS:PORT` and the `unix//PATH` that it may ask, the latter as one of the group `callers`. Without
    any there is nothing to run."""
    if not sites:
        return
    upstreams, most = tuple(dict.fromkeys(each for site in sites for each in site)), max(map(len, sites))
    program = [File(f"{DIRECTORY}/{name}", text) for name, text in knowledge.program("caddy").items()]
    remote = [each for each in upstreams if not each.startswith("unix/")]
    hosts = list(dict.fromkeys(address_of(each).partition("%")[0] for each in remote))
    service = render(
        "caddy/paddock-model-list.service.j2",
        program=DIRECTORY,
        addresses=hosts if all(map(is_address, hosts)) else None,  # systemd knows no names
        tasks=TASKS * (most + 1 if most > 1 else 1),
        group=callers if len(remote) < len(upstreams) else "",
    )
    units = [
        File(f"/etc/systemd/system/{UNIT}", service),
        File(f"/etc/systemd/system/{LISTENER}", render("caddy/paddock-model-list.socket.j2", socket=SOCKET, unit=UNIT)),
    ]
    yield Package("python3")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield from (*program, *units)
    yield Service(UNIT, restarts=(*program, *units))

"""The endpoint's program, what it is to know, its key and its unit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles import tunnel
from roles.admin.settings import SOCKET, AdminSettings, admin_key_name
from roles.role import address_of, listed_as, loopback_of, port_of, render
from roles.sandbox import HOMES, hidden
from roles.server import CALLERS, Server

DIRECTORY = "/etc/paddock/admin"
PROGRAM = f"{DIRECTORY}/program"
CONFIGURATION = f"{DIRECTORY}/admin.json"
KEY_FILE = f"{DIRECTORY}/key"
UNIT = "paddock-admin.service"
LISTENER = "paddock-admin.socket"
WAY_IN = tunnel.Tunnel(
    "paddock-admin-tunnel.service", "/etc/paddock/admin-tunnel", "Encrypted way to the admin endpoint of this host", group=CALLERS
)
PRESETS = "/etc/paddock/llama-server/presets.ini"

SHORTEST_KEY = 16
"""The program takes no shorter one."""


def plan(host: Host, settings: AdminSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    servers = fleet.servers(host.name)
    if not servers:
        raise PaddockError(f"hosts.{host.name}.roles.admin: there is no llama-server here to change: remove the role from this host")
    program = [File(f"{PROGRAM}/{name}", text) for name, text in knowledge.program("admin").items()]
    configuration = File(CONFIGURATION, _configuration(servers, fleet))
    key, unit, dropins = _key(host, knowledge), _unit(servers, fleet), tuple(_dropins(servers))
    ways = [each for each in fleet.tunnels_to(host.name) if each.socket == SOCKET]
    listener = _listener(loopback_of(settings.listen) if ways else settings.listen)
    yield Package("python3")
    yield User(CALLERS, "/nonexistent")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield Directory(PROGRAM, exclusive=True)
    yield from (*program, configuration, key, unit, listener)
    for each in dropins:
        yield Directory(each.path.rpartition("/")[0])
        yield each
    if ways:
        port = Port(port_of(settings.listen), (listed_as(address_of(loopback_of(settings.listen))),), LISTENER, shared=True)
    else:
        port = Port(
            port_of(settings.listen), (listed_as(address_of(settings.listen)),), LISTENER, reachable_from=fleet.callers_of_admin(host.name)
        )
    yield Service(LISTENER, restarts=(listener,), ports=(port,))
    yield Service(
        UNIT,
        restarts=(*program, configuration, key, unit, *dropins),
        runs=tuple(dict.fromkeys(f"file:{each.key_file}" for each in servers if each.key_file)),
    )
    yield from tunnel.inwards(WAY_IN, ways, knowledge, settings.expiry)


def remarks(host: Host, settings: AdminSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    if not settings.encrypted and (callers := fleet.callers_of_admin(host.name)):
        words = f"NOT ENCRYPTED: the key that {' and '.join(callers)} sends is clear text on the network"
        yield f"hosts.{host.name}.roles.admin: {words} (`encrypted: false` says so)"


def _configuration(servers: Sequence[Server], fleet: Fleet) -> str:
    known = [
        {
            "unit": each.unit,
            "url": f"unix:{each.socket}" if each.socket else f"http://{fleet.endpoint(each, each.host)}",
            "models": list(each.models),
            "router": each.kind == "router",
            "account": each.user if each.scope == "user" else "",
        }
        for each in servers
    ]
    said = {"key": KEY_FILE, "presets": PRESETS, "servers": known}
    return json.dumps(said, indent=1) + "\n"


def _key(host: Host, knowledge: Knowledge) -> File:
    key = knowledge.key(admin_key_name(host.name), SHORTEST_KEY)
    return File(KEY_FILE, f"{key}\n", mode=0o600, secret=True)


def _listener(listen: str) -> File:
    text = render("admin/paddock-admin.socket.j2", listen=listen, socket=SOCKET, callers=CALLERS)
    return File(f"/etc/systemd/system/{LISTENER}", text)


def _unit(servers: Sequence[Server], fleet: Fleet) -> File:
    called = [address_of(fleet.endpoint(each, each.host)) for each in servers if not each.socket]
    routers = [each for each in servers if each.kind == "router"]
    # It reads in a model's header how long a context may be.
    models = dict.fromkeys(fleet.model_path(each.host, name) for each in routers for name in each.models)
    text = render(
        "admin/paddock-admin.service.j2",
        program=PROGRAM,
        configuration=CONFIGURATION,
        api_key=next((each.key_file for each in servers if each.key_file), ""),
        units=[each.unit for each in servers if each.scope == "system"],
        changes=PRESETS.rpartition("/")[0],
        listener=LISTENER,
        shown=[path for path in models if hidden(path)],
        shows_home=any(hidden(path, HOMES) for path in models),
        networked=bool(called),
        addresses=list(dict.fromkeys(each for each in called if not ip_address(each).is_loopback)),
    )
    return File(f"/etc/systemd/system/{UNIT}", text)


def _dropins(servers: Sequence[Server]) -> Iterator[File]:
    """A router that starts with presets that a client has changed does not run what is declared, and is not to note that it does."""
    for each in servers:
        if each.kind == "router" and each.scope == "system":
            text = render("admin/60-paddock-admin.conf.j2", presets=PRESETS)
            yield File(f"/etc/systemd/system/{each.unit}.d/60-paddock-admin.conf", text)

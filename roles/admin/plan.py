"""The endpoint's program, what it is to know, its key and its unit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service
from roles.admin.settings import AdminSettings, admin_key_name
from roles.role import address_of, is_privileged, listed_as, port_of, render
from roles.sandbox import HOMES, hidden
from roles.server import Server

DIRECTORY = "/etc/paddock/admin"
PROGRAM = f"{DIRECTORY}/program"
CONFIGURATION = f"{DIRECTORY}/admin.json"
KEY_FILE = f"{DIRECTORY}/key"
UNIT = "paddock-admin.service"
PRESETS = "/etc/paddock/llama-server/presets.ini"

SHORTEST_KEY = 16
"""The program takes no shorter one."""


def plan(host: Host, settings: AdminSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    servers = fleet.servers(host.name)
    if not servers:
        raise PaddockError(f"hosts.{host.name}.roles.admin: there is no llama-server here to change: remove the role from this host")
    program = [File(f"{PROGRAM}/{name}", text) for name, text in knowledge.program("admin").items()]
    configuration = File(CONFIGURATION, _configuration(settings, servers, fleet))
    key, unit, dropins = _key(host, knowledge), _unit(settings, servers, fleet), tuple(_dropins(servers))
    yield Package("python3")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield Directory(PROGRAM, exclusive=True)
    yield from (*program, configuration, key, unit)
    for each in dropins:
        yield Directory(each.path.rpartition("/")[0])
        yield each
    listens = (listed_as(address_of(settings.listen)),)
    yield Service(
        UNIT,
        restarts=(*program, configuration, key, unit, *dropins),
        runs=tuple(dict.fromkeys(f"file:{each.key_file}" for each in servers if each.key_file)),
        ports=(Port(port_of(settings.listen), listens, UNIT, reachable_from=fleet.callers(host.name)),),
    )


def _configuration(settings: AdminSettings, servers: Sequence[Server], fleet: Fleet) -> str:
    known = [
        {
            "unit": each.unit,
            "url": f"http://{fleet.endpoint(each, each.host)}",
            "models": list(each.models),
            "router": each.kind == "router",
            "account": each.user if each.scope == "user" else "",
        }
        for each in servers
    ]
    where = {"address": address_of(settings.listen), "port": port_of(settings.listen)}
    said = {**where, "key": KEY_FILE, "presets": PRESETS, "servers": known}
    return json.dumps(said, indent=1) + "\n"


def _key(host: Host, knowledge: Knowledge) -> File:
    key = knowledge.key(admin_key_name(host.name), SHORTEST_KEY)
    return File(KEY_FILE, f"{key}\n", mode=0o600, secret=True)


def _unit(settings: AdminSettings, servers: Sequence[Server], fleet: Fleet) -> File:
    addresses = [ip_address(address_of(settings.listen)), *(ip_address(address_of(fleet.endpoint(each, each.host))) for each in servers)]
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
        low_port=is_privileged(settings.listen),
        shown=[path for path in models if hidden(path)],
        shows_home=any(hidden(path, HOMES) for path in models),
        loopback=all(address.is_loopback for address in addresses),
        at_boot=not (addresses[0].is_loopback or addresses[0].is_unspecified),
    )
    return File(f"/etc/systemd/system/{UNIT}", text)


def _dropins(servers: Sequence[Server]) -> Iterator[File]:
    """A router that starts with presets that a client has changed does not run what is declared, and is not to note that it does."""
    for each in servers:
        if each.kind == "router" and each.scope == "system":
            text = render("admin/60-paddock-admin.conf.j2", presets=PRESETS)
            yield File(f"/etc/systemd/system/{each.unit}.d/60-paddock-admin.conf", text)

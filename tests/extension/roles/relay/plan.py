"""The relay's program, its configuration, its keys and its unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from resources import Directory, File, Package, Port, Resource, Service
from roles.relay.settings import RelaySettings, relay_key_name
from roles.role import address_of, listed_as, port_of, render

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge

DIRECTORY = "/etc/paddock/relay"
PROGRAM = f"{DIRECTORY}/relay.py"
CONFIGURATION = f"{DIRECTORY}/relay.json"
KEY_FILE = f"{DIRECTORY}/key"
UPSTREAM_KEY_FILE = f"{DIRECTORY}/upstream-key"
UNIT = "paddock-relay.service"


def plan(host: Host, settings: RelaySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    unit = render("relay/paddock-relay.service.j2", settings, program=PROGRAM, configuration=CONFIGURATION)
    inputs = [
        File(PROGRAM, render("relay/relay.py")),
        File(CONFIGURATION, _configuration(host, settings, fleet)),
        _key(KEY_FILE, host.name, settings, knowledge),
        File(f"/etc/systemd/system/{UNIT}", unit),
    ]
    if settings.upstream:
        inputs.append(_key(UPSTREAM_KEY_FILE, settings.upstream, settings, knowledge))
    yield Package("python3")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield from inputs
    port = Port(port_of(settings.listen), (listed_as(address_of(settings.listen)),), UNIT)
    yield Service(UNIT, restarts=tuple(inputs), ports=(port,))


def needs(host: Host, settings: RelaySettings, fleet: Fleet) -> Iterator[str]:
    if settings.upstream:
        yield settings.upstream


def _configuration(host: Host, settings: RelaySettings, fleet: Fleet) -> str:
    said: dict[str, object] = {"name": host.name, "listen": [address_of(settings.listen), port_of(settings.listen)], "key": KEY_FILE}
    if settings.upstream:
        upstream = fleet.role(settings.upstream, "relay", RelaySettings)
        assert upstream
        where = f"hosts.{settings.upstream}.roles.relay.listen"
        reach = fleet.reach(upstream.listen, where, settings.upstream, host.name)
        said |= {"upstream": f"http://{reach}/", "upstream_key": UPSTREAM_KEY_FILE}
    return json.dumps(said, indent=1) + "\n"


def _key(path: str, host: str, settings: RelaySettings, knowledge: Knowledge) -> File:
    return File(path, f"{knowledge.key(relay_key_name(host))}\n", group=settings.account, mode=0o640, secret=True)

"""What the node exporter tells of the models that Prometheus must not ask: those of routers, and those that fall asleep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Resource, Service
from roles.preset import sleep_s
from roles.role import render
from roles.server import Server

DIRECTORY = "/etc/paddock/model-metrics"
PROGRAM = f"{DIRECTORY}/program"
CONFIGURATION = f"{DIRECTORY}/servers.json"
UNIT = "paddock-model-metrics.service"
NAME = "paddock-models.prom"
EVERY_S = 15


def told_of(fleet: Fleet, host: str) -> tuple[Server, ...]:
    """The llama-servers of a host whose models it tells of. An account's own have no socket by which they could be asked."""
    return tuple(each for each in fleet.servers(host) if each.socket and (each.kind == "router" or _asleep(each, fleet)))


def resources(host: str, fleet: Fleet, knowledge: Knowledge, textfiles: str) -> Iterator[Resource]:
    servers = told_of(fleet, host)
    if not servers:
        return
    program = [File(f"{PROGRAM}/{name}", text) for name, text in knowledge.program("node_exporter").items()]
    out = f"{textfiles}/{NAME}"
    configuration = File(CONFIGURATION, _configuration(servers, fleet, out))
    unit = File(f"/etc/systemd/system/{UNIT}", _unit(servers, out))
    yield Package("python3")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield Directory(PROGRAM, exclusive=True)
    yield from (*program, configuration, unit)
    keys = dict.fromkeys(f"file:{each.key_file}" for each in servers if each.key_file)
    yield Service(UNIT, restarts=(*program, configuration, unit), runs=tuple(keys))


def _asleep(server: Server, fleet: Fleet) -> tuple[str, ...]:
    """The models that fall asleep, or of which nobody can tell."""
    return tuple(model for model in server.models if _sleeps(server, model, fleet))


def _sleeps(server: Server, model: str, fleet: Fleet) -> bool:
    try:
        return sleep_s(fleet.preset(server, model)) >= 0
    except ValueError:
        return True


def _configuration(servers: Sequence[Server], fleet: Fleet, out: str) -> str:
    known = [
        {
            "name": each.name,
            "socket": each.socket,
            "router": each.kind == "router",
            "models": list(each.models),
            "asleep": list(_asleep(each, fleet)),
        }
        for each in servers
    ]
    return json.dumps({"out": out, "every_s": EVERY_S, "servers": known}, indent=1) + "\n"


def _unit(servers: Sequence[Server], out: str) -> str:
    return render(
        "node_exporter/paddock-model-metrics.service.j2",
        units=[each.unit for each in servers],
        program=PROGRAM,
        configuration=CONFIGURATION,
        api_key=next((each.key_file for each in servers if each.key_file), ""),
        out=out,
        directory=out.rpartition("/")[0],
    )

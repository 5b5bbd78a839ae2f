"""ggml-rpc-server of the release that the host has, in a network of its own, and before it the tunnel, which lets in the one host that it
computes for."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Port, Release, Resource, Service, User
from roles.devices import OTHER_GGML, devices, reads_proc
from roles.expiry import Pem, expiry_watch
from roles.role import address_of, is_address, listed_as, port_of, render
from roles.rpc_worker.settings import RpcWorkerSettings
from roles.tunnel import ACCOUNT as TUNNEL_ACCOUNT
from roles.tunnel import Hop, Tunnel

RELEASE = "/opt/paddock/llama.cpp/current"
ACCOUNT = "paddock-rpc"
CACHE = "/var/cache/paddock-rpc"
"""As its unit has it, by CacheDirectory=."""
UNIT = "paddock-rpc-worker.service"
DOOR, LISTENER = "paddock-rpc-door.service", "paddock-rpc-door.socket"
SOCKET = "/run/paddock/rpc-door.sock"
"""Where the tunnel reaches the worker; nobody else may connect."""
BEHIND = "127.0.0.1:50052"
"""Where the worker listens, in its own network."""
TUNNEL = Tunnel("paddock-rpc-worker-tunnel.service", "/etc/paddock/rpc-worker", "Tunnel to the llama.cpp RPC worker of this host")


def plan(host: Host, settings: RpcWorkerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    callers = callers_of(host.name, fleet)
    unit = _unit(host, settings, knowledge)
    opens = TUNNEL.listener if settings.encrypted else UNIT
    ports = (Port(port_of(settings.listen), (listed_as(address_of(settings.listen)),), opens, reachable_from=callers),)
    yield User(ACCOUNT, "/nonexistent")
    if settings.cache:
        yield Directory(CACHE, data=True)
    yield unit
    yield Service(UNIT, restarts=(unit,), runs=(f"release:{RELEASE}",), ports=() if settings.encrypted else ports)
    if settings.encrypted:
        hop = Hop("worker", settings.listen, SOCKET, callers)
        yield from TUNNEL.resources(host.name, (hop,), knowledge, ports)
        yield from _door()
        watched = [Pem(TUNNEL.certificate), *([Pem(TUNNEL.peers(hop))] if callers else [])]
        yield from expiry_watch("rpc-worker", host.name, watched, settings.expiry)


def callers_of(host: str, fleet: Fleet) -> tuple[str, ...]:
    """The hosts whose llama-servers it computes for: one, where the inventory is right."""
    return tuple(dict.fromkeys(server.host for server in fleet.servers_of_worker(host)))


def refusals(host: Host, settings: RpcWorkerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """What only the hardware and the source show."""
    where = f"hosts.{host.name}.roles.rpc_worker"
    options, release = knowledge.options.get(host.name), knowledge.releases.get(host.name)
    if options and not options.find("rpc"):
        yield f"{where}: llama.cpp {options.label} has no RPC: use a newer one"
    if isinstance(release, Release) and dict(release.options).get("GGML_RPC") != "ON":
        yield f"hosts.{host.name}.roles.llama_cpp.options: without GGML_RPC there is no ggml-rpc-server: leave it out"
    if fleet.servers(host.name) and isinstance(release, Release) and release.backend != "cpu":
        yield f"{where}: its cards serve {host.name}'s own llama-servers: leave out one of the two roles"
    for each in () if settings.encrypted else fleet.servers_of_worker(host.name):
        reach = address_of(fleet.reach(settings.listen, f"{where}.listen", host.name, each.host))
        if not is_address(reach):
            yield f"{where}: without a tunnel {each.host} needs the IP address of {host.name}: write it in `listen`"


def remarks(host: Host, settings: RpcWorkerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    where = f"hosts.{host.name}.roles.rpc_worker"
    if not settings.encrypted:
        guarded = "" if any(each.guards_ports for each in host.carried.values()) else ", and no firewall keeps them away"
        words = "NOT ENCRYPTED: models and what callers ask are clear text on the network"
        yield f"{where}: {words}, and whoever reaches {settings.listen} may run code on {host.name}{guarded}"
    if not fleet.servers_of_worker(host.name):
        yield f"{where}: nobody uses it: name {host.name} in `workers` of an instance of llama_server, or leave the role out"


def _door() -> Iterator[Resource]:
    """What leads from the tunnel into the worker's network."""
    texts = {
        DOOR: render("rpc_worker/paddock-rpc-door.service.j2", worker=UNIT, socket=LISTENER, account=ACCOUNT, port=port_of(BEHIND)),
        LISTENER: render("rpc_worker/paddock-rpc-door.socket.j2", service=DOOR, path=SOCKET, account=TUNNEL_ACCOUNT),
    }
    units = tuple(File(f"/etc/systemd/system/{name}", text) for name, text in texts.items())
    yield from units
    yield Service(DOOR, restarts=units)


def _unit(host: Host, settings: RpcWorkerSettings, knowledge: Knowledge) -> File:
    release = knowledge.releases.get(host.name)
    found, at = release if isinstance(release, Release) else None, BEHIND if settings.encrypted else settings.listen
    text = render(
        "rpc_worker/paddock-rpc-worker.service.j2",
        settings,
        account=ACCOUNT,
        program=f"{RELEASE}/bin/ggml-rpc-server",
        mount=RELEASE.rpartition("/")[0],
        address=address_of(at),
        number=port_of(at),
        environment=[f"{name}={value}" for name, value in (found.environment if found else ())],
        hidden=OTHER_GGML if found and found.downloads else (),
        devices=devices(knowledge.hardware.get(host.name), found.backend) if found else (),
        reads_proc=found is not None and reads_proc(knowledge.hardware.get(host.name), found.backend),
    )
    return File(f"/etc/systemd/system/{UNIT}", text)

"""The hosts that compute a part of a model for an instance here: how it reaches them, through a tunnel or without."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Port, Release, Resource
from roles.role import address_of, is_address, listed_as, port_of
from roles.sandbox import RPC
from roles.server import Server
from roles.tunnel import Hop, Tunnel

TUNNEL = Tunnel("paddock-rpc-tunnel.service", "/etc/paddock/rpc-tunnel", "Tunnels to the llama.cpp RPC workers of other hosts")


def tunnels(host: Host, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    """What the llama-servers of a host reach their workers by; nothing where none of it is encrypted."""
    hops = tuple(hop for server in fleet.servers(host.name) for hop in _hops(server, fleet))
    if hops:
        ports = (Port(port_of(each.accept), (listed_as(address_of(each.accept)),), TUNNEL.listener) for each in hops)
        yield from TUNNEL.resources(host.name, hops, knowledge, ports)


def endpoints(server: Server, fleet: Fleet) -> tuple[str, ...]:
    """What `--rpc` names: on its own host the beginning of each tunnel, and of what is not encrypted the worker itself."""
    pairs = zip(fleet.workers_of(server), server.tunnels, strict=True)
    return tuple(tunnel if worker.encrypted else _reach(worker.host, server, fleet) for worker, tunnel in pairs)


def addresses(server: Server, fleet: Fleet) -> tuple[str, ...]:
    """The IP addresses, beside its own host's, that a server calls its workers at."""
    found = (address_of(each) for each in endpoints(server, fleet))
    return tuple(dict.fromkeys(each for each in found if is_address(each) and not each.startswith("127.")))


def started_with(server: Server, fleet: Fleet, knowledge: Knowledge) -> tuple[str, ...]:
    """What each of its workers runs: `big 3f2a9c0d1e4b`. A server ends with its worker, and so it is restarted with it."""
    return tuple(f"{worker.host} {_digest(worker.runs, knowledge.releases.get(worker.host))}" for worker in fleet.workers_of(server))


def _digest(runs: str, release: object) -> str:
    fingerprint = release.fingerprint if isinstance(release, Release) else ""
    return hashlib.sha256(f"{runs}\n{fingerprint}".encode()).hexdigest()[:12]


def refusals(host: Host, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """A server and its workers are of one version, built of one source, and Paddock alone says where the workers are."""
    own = knowledge.releases.get(host.name)
    for server in (each for each in fleet.servers(host.name) if each.workers):
        where = f"hosts.{host.name}.{'.'.join(server.keys)}"
        if any(RPC in fleet.preset(server, model) for model in server.models):
            yield f'{where}: `workers` says where its RPC servers are: leave "{RPC}" out of the preset'
        if isinstance(own, Release) and dict(own.options).get("GGML_RPC") != "ON":
            yield f"hosts.{host.name}.roles.llama_cpp.options: without GGML_RPC llama-server has no workers: leave it out"
        for worker in server.workers:
            theirs = knowledge.releases.get(worker)
            if isinstance(own, Release) and isinstance(theirs, Release) and own.source != theirs.source:
                words = f"{worker} has llama.cpp {theirs.version} of another source than {host.name}'s {own.version}"
                yield f"{where}.workers: {words}: RPC needs the same on both"


def _hops(server: Server, fleet: Fleet) -> Iterator[Hop]:
    for worker, tunnel in zip(fleet.workers_of(server), server.tunnels, strict=True):
        if worker.encrypted:
            yield Hop(worker.host, tunnel, _reach(worker.host, server, fleet), (worker.host,), calls=True)


def _reach(host: str, server: Server, fleet: Fleet) -> str:
    worker = next(each for each in fleet.workers_of(server) if each.host == host)
    return fleet.reach(worker.listen, f"hosts.{host}.{'.'.join(worker.keys)}.listen", host, server.host)

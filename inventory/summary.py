"""A fleet in a few words: what `paddock check` says of a good inventory."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from ipaddress import ip_address

from inventory.schema import Fleet


def summary(fleet: Fleet) -> str:
    """A line on the fleet, and one for each host: its name, where it is, what it carries.

    fleet demo in home.example: 1 host, 1 model, 1 client
      ai  192.0.2.10  base, llama_cpp, models, llama_server (demo), caddy (ai.home.example)
    """
    counts = f"{_count(fleet.hosts, 'host')}, {_count(fleet.models, 'model')}, {_count(fleet.clients, 'client')}"
    names, places = (max(map(len, column)) for column in (fleet.hosts, [host.address for host in fleet.hosts.values()]))
    return "\n".join(
        [
            f"fleet {fleet.name} in {fleet.domain}: {counts}",
            *(f"  {host.name:{names}}  {host.address:{places}}  {_carried(fleet, host.name)}".rstrip() for host in fleet.hosts.values()),
        ]
    )


def warnings(fleet: Fleet) -> Iterator[str]:
    """What is well-formed, and still not what most people mean: servers that anybody may talk to, past the certificates before them."""
    for host in fleet.hosts.values():
        if not fleet.callers(host.name) or "firewall" in host.carried:
            continue
        open_to_all = [each.listen for each in fleet.servers(host.name) if not each.api_key and not ip_address(each.address).is_loopback]
        if open_to_all:
            which = open_to_all[0] + (f" and {len(open_to_all) - 1} more of its servers" if len(open_to_all) > 1 else "")
            yield f"{host.name}: whoever reaches {which} needs no certificate: the role firewall would let the reverse proxy in alone"


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _carried(fleet: Fleet, host: str) -> str:
    details = {"llama_server": fleet.served_models(host), "caddy": getattr(fleet.hosts[host].carried.get("caddy"), "sites", {})}
    return (
        ", ".join(f"{role} ({', '.join(details[role])})" if details.get(role) else role for role in fleet.hosts[host].carried) or "nothing"
    )

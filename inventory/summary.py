"""A fleet in a few words: what `paddock check` says of a good inventory."""

from __future__ import annotations

from collections.abc import Sized

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


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _carried(fleet: Fleet, host: str) -> str:
    details = {"llama_server": fleet.served_models(host), "caddy": getattr(fleet.hosts[host].carried.get("caddy"), "sites", {})}
    return (
        ", ".join(f"{role} ({', '.join(details[role])})" if details.get(role) else role for role in fleet.hosts[host].carried) or "nothing"
    )

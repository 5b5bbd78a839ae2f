"""A fleet in a few words: what `paddock check` says of a good inventory."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from ipaddress import ip_address

from inventory.fleet import Fleet


def summary(fleet: Fleet) -> str:
    """A line on the fleet, and one for each host: its name, where it is, what it carries.

    fleet demo in home.example: 1 host, 1 model, 1 client
      ai  192.0.2.10  base, llama_cpp, models, llama_server (demo), caddy (ai.home.example)
    """
    counted = [_count(fleet.hosts, "host"), _count(fleet.models, "model"), _count(fleet.clients, "client")]
    counts = ", ".join([*counted, _count(fleet.users, "user")] if fleet.users else counted)
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
        if not fleet.callers(host.name) or any(each.guards_ports for each in host.carried.values()):
            continue
        open_to_all = [
            each.listen
            for each in fleet.servers(host.name)
            if not each.api_key and not ip_address(each.address).is_loopback and not fleet.is_tunnelled(each)
        ]
        if open_to_all:
            which = open_to_all[0] + (f" and {len(open_to_all) - 1} more of its servers" if len(open_to_all) > 1 else "")
            yield f"{host.name}: callers of {which} need no certificate: add the role firewall, which admits only the reverse proxy"


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _carried(fleet: Fleet, host: str) -> str:
    details = {role: ", ".join(settings.details()) for role, settings in fleet.hosts[host].carried.items()}
    return ", ".join(f"{role} ({words})" if words else role for role, words in details.items()) or "nothing"

"""The address of a network interface, at which a server listens that names the interface."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.role import is_address
from roles.server import Server


def address_at(server: Server, fleet: Fleet, addresses: Mapping[str, tuple[str, ...]]) -> str:
    """`ADDRESS:PORT`: the interface's first address of IPv4, or else of IPv6. `addresses` are the host's, by interface.

    Raises PaddockError where it has no such interface, or where other hosts call the server at an address that is another's.
    """
    where = f"hosts.{server.host}.{'.'.join(server.keys)}.listen"
    if not (own := addresses.get(server.interface)):
        have = ", ".join(f"{name} ({' and '.join(each)})" for name, each in addresses.items()) or "none"
        raise PaddockError(f"{where}: {server.host} has no interface {server.interface} with an address: it has {have}")
    called_at = fleet.hosts[server.host].address
    if fleet.callers_of(server) and is_address(called_at) and ip_address(called_at) not in map(ip_address, own):
        callers = " and ".join(fleet.callers_of(server))
        words = f"{callers} calls it at {called_at}, which is no address of {server.interface} ({' and '.join(own)})"
        raise PaddockError(f"{where}: {words}: name the interface that has it, or write an address")
    return f"[{own[0]}]:{server.port}" if ":" in own[0] else f"{own[0]}:{server.port}"

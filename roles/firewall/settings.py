from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from roles.role import Matches, Name, RoleSettings


def _source(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError("a network has no interface")
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is neither an address nor a network, such as 192.0.2.7 or 192.0.2.0/24 ({error})') from None


def _address(value: str) -> str:
    try:
        if "%" in value:
            raise ValueError("an interface")
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f'"{value}" is not an IP address, such as 192.0.2.7: firewall rules cannot contain names') from None


PortNumber = Annotated[str, Matches(r"[1-9][0-9]{0,4}", "is not a port number")]
AllowedNetwork = Annotated[str, AfterValidator(_source)]
IpAddress = Annotated[str, AfterValidator(_address)]


class FirewallSettings(RoleSettings):
    """A separate nftables table that restricts the ports that the inventory declares on this host. It never touches SSH or any other port.

    A server's port is open to this host and to the fleet's reverse proxies that forward to it. A reverse proxy's ports are open to all.
    """

    guards_ports: ClassVar[bool] = True

    allow: dict[PortNumber, tuple[AllowedNetwork, ...]] = {}
    """Further addresses and networks that may reach a port, by port number: `{"8080": [192.0.2.0/24, "2001:db8::7"]}`."""

    addresses: dict[Name, tuple[IpAddress, ...]] = {}
    """Further addresses that hosts of the fleet call from, by host: `{door: ["2001:db8::2"]}`. Needed if a host's `address` is a name, or
    is IPv4 while the host calls over IPv6 (or the reverse)."""

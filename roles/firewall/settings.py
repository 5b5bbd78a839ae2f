from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator

from roles.role import Matches, Name, RoleSettings


def _source(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f'"{value}" is no address and no network, such as 192.0.2.7 or 192.0.2.0/24 ({error})') from None


def _address(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f'"{value}" is no IP address, such as 192.0.2.7: rules are made of addresses, not of names') from None


PortNumber = Annotated[str, Matches(r"[1-9][0-9]{0,4}", "is no number of a port")]
Source = Annotated[str, AfterValidator(_source)]
Address = Annotated[str, AfterValidator(_address)]


class FirewallSettings(RoleSettings):
    """An nftables table of Paddock's own: who may reach the ports that the inventory declares here. It never touches any other port, SSH
    least of all.

    A server's port is reached by the hosts of the fleet that pass requests on to it, by this host itself, and by nobody else; a reverse
    proxy's by everybody.
    """

    allow: dict[PortNumber, tuple[Source, ...]] = {}
    """Who else may reach a port, by its number: `{"8080": [192.0.2.0/24, "2001:db8::7"]}`."""

    addresses: dict[Name, tuple[Address, ...]] = {}
    """Further addresses that hosts of the fleet call from, by host: `{door: ["2001:db8::2"]}`. Needed where what the inventory says of
    one is a name, or of another family (IPv4, IPv6) than it calls over."""

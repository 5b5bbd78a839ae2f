"""Addresses to listen at: `127.0.0.1:8001`, `[::1]:8001`, or an interface by its name, `tailscale0:8001`: all that it has now."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

SIOCGIFADDR = 0x8915
"""netdevice(7): the first IPv4 address of an interface."""


class BadAddress(ValueError):
    """What cannot be listened at, in one line."""


@dataclass(frozen=True)
class Listen:
    """Either an address or an interface's name."""

    host: str
    port: int
    interface: bool


def parsed(said: str) -> Listen:
    """Raises BadAddress."""
    host, colon, port = said.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise BadAddress(f"listen: {said!r} has no port: write 127.0.0.1:8001, [::1]:8001 or tailscale0:8001")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadAddress(f"listen: write an IPv6 address in brackets: [{host}]:{port}")
    try:
        return Listen(str(ip_address(host)), int(port), interface=False)
    except ValueError:
        pass
    if host == "localhost":
        return Listen("127.0.0.1", int(port), interface=False)
    if not 1 <= len(host) <= 15 or "/" in host or any(letter.isspace() for letter in host):
        raise BadAddress(f"listen: {said!r} is neither an address nor the name of an interface, which has at most 15 letters")
    return Listen(host, int(port), interface=True)


def addresses(interface: str) -> frozenset[tuple[str, int]]:
    """(address, scope id) of each that the interface has; none while it is not there. The scope id is 0 but for link-local IPv6."""
    found = {(address, scope) for address, scope in _ipv6(interface)}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()))
        found.add((socket.inet_ntoa(answer[20:24]), 0))
    return frozenset(found)


TENTATIVE = 0x40
"""if_addr.h: an address that is still being looked for on the link cannot be bound."""


def _ipv6(interface: str) -> list[tuple[str, int]]:
    """proc(5): `address index prefix-length scope flags name`, in hex."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        digits, index, _, _, flags, name = line.split()
        if name == interface and not int(flags, 16) & TENTATIVE:
            address = IPv6Address(int(digits, 16))
            found.append((str(address), int(index, 16) if address.is_link_local else 0))
    return found

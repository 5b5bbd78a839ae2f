"""Where metrics are shown: what a role with such a page says of itself to who reads it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from roles.role import address_of, listed_as

ALERTMANAGER = "alertmanager"
"""The service to which Prometheus sends alerts."""

HOST_DOWN = "HostDown"
"""The alert beside which others of its host need not be told of."""

SIGN_OF_LIFE = "DeadMansSwitch"
"""The alert that always fires."""


@dataclass(frozen=True)
class Metrics:
    """A page of metrics, `/metrics`, of one service of a host.

    `home` is `ADDRESS:PORT`, or `INTERFACE:PORT`, for a reader on its own host. `listen` is the same for one on another; empty where no
    other host may read it. `key` leads from its host to what the inventory has to say so that others may.
    """

    service: str
    home: str
    listen: str
    key: str


def listed_by_go(endpoint: str) -> str:
    """How ss lists the socket of a program in Go: one on every address takes IPv6 too, whichever way it was written
    (net/ipsock_posix.go: favoriteAddrFamily)."""
    address = address_of(endpoint)
    return "*" if ip_address(address).is_unspecified else listed_as(address)

"""Who calls: the key of a request, the account behind it, and the address that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from paddock_gateway.contract import Account, Parts
from paddock_gateway.errors import Failure

LOOPBACK = ("127.0.0.0/8", "::1/128")


def key_of(request: web.Request) -> str:
    """From `Authorization: Bearer` or `X-API-Key`; empty where there is none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("X-API-Key", "").strip()


async def account_of(request: web.Request, parts: Parts) -> Account:
    """Raises Failure: 401 where there is no key or no such key."""
    key = key_of(request)
    if not key:
        raise Failure(401, "This needs a key: send it as X-API-Key or Authorization: Bearer.", "missing_api_key")
    return parts.keys.known(key) or await parts.keys.account(key)


async def administrator(request: web.Request, parts: Parts) -> Account:
    """Raises Failure: 401 without a key, 403 with one of a user who is no administrator."""
    account = await account_of(request, parts)
    if not account.admin:
        raise Failure(403, "This needs the key of an administrator.", "admin_required")
    return account


def comes_from(request: web.Request, networks: Sequence[str]) -> bool:
    """Whether the peer itself is in one of the networks.

    A request that a proxy passed on comes from nobody here: its peer is the proxy, and what it says of its caller anybody can say.
    """
    if any(header in request.headers for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")):
        return False
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not isinstance(peer, tuple):
        return False  # a Unix socket
    try:
        address: IPv4Address | IPv6Address = ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in ip_network(network, strict=False) for network in networks)

"""Who calls: the account behind a request's key, and the address that the request came from."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

from paddock_gateway.contract import Account, Parts
from paddock_gateway.errors import Failure
from paddock_gateway.proxy.credentials import key_of

Network = IPv4Network | IPv6Network
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def has_key(request: web.Request) -> bool:
    return "Authorization" in request.headers or "X-Api-Key" in request.headers


async def account_of(request: web.Request, parts: Parts) -> Account:
    """Raises Failure: 401 where there is no key or no such key, 400 for one in the query string."""
    return await account_with(key_of(request.headers, request.query), parts)


async def account_with(key: str, parts: Parts) -> Account:
    return parts.keys.known(key) or await parts.keys.account(key)


async def administrator(request: web.Request, parts: Parts) -> Account:
    """Raises Failure: 401 without a key, 403 with one of a user who is no administrator."""
    account = await account_of(request, parts)
    if not account.admin:
        raise Failure(403, "This needs the key of an administrator.", "admin_required")
    return account


def comes_from(request: web.Request, networks: Sequence[Network]) -> bool:
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
    return any((mapped or address) in network for network in networks)

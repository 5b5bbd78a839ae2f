"""What somebody else has on a host, as far as Paddock's services meet it there. Read by facts/neighbours.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Listener:
    """An address at which Caddy answers for sites of somebody else's."""

    address: str
    """As Caddy spells it: `:443`, `tcp4/0.0.0.0:443`, `[2001:db8::7]:443`"""
    names: tuple[str, ...] = ()
    """The names of the sites there, also addresses and wildcards: `*.home.example`"""
    with_tls: tuple[str, ...] = ()
    """Those names for which it has TLS settings of its own: other certificates or protocols, client certificates."""
    any_name: bool = False
    """Whether a site without a name answers there."""
    https: bool = True
    strict: bool = True
    """Whether Caddy refuses a request for another name than the handshake's, once a site there requires client certificates."""
    implied: bool = False
    """Whether it is there for the redirect to HTTPS alone, which Caddy adds by itself."""


@dataclass(frozen=True)
class Caddyfile:
    """What a Caddyfile of somebody else's says, without what it imports of Paddock's."""

    listeners: tuple[Listener, ...] = ()
    is_valid: bool = True
    """Whether Caddy can read it."""
    redirects: bool = True
    """Whether Caddy redirects plain HTTP by itself."""
    certificates: bool = True
    """Whether Caddy gets certificates by itself."""
    http_port: int = 80
    administration: str = ""
    """Where its option `admin` puts Caddy's API; `off` for nowhere, empty where it says nothing."""
    reads: tuple[str, ...] = ()
    """Files and directories that its sites read, and sockets that they call: `/srv/www`"""
    writes: tuple[str, ...] = ()
    """Files and directories that they write: logs, storage, sockets that they listen on."""


@dataclass(frozen=True)
class InputChain:
    """A chain of nftables that drops what comes in and none of its table's rules accepts."""

    name: str
    """`inet filter input`"""
    ports: tuple[str, ...] = ()
    """The ports that rules of its table name: `22`, `8000-8100`"""

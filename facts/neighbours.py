"""What somebody else has on a host that Paddock's services meet there: the rest of its Caddyfile, and what drops packets that come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from shlex import quote
from typing import Any

from inventory.bounds import from_json
from inventory.neighbours import Caddyfile, InputChain, Listener
from resources import as_unit

PADDOCKS = "/etc/caddy/paddock"
IMPORT = f"import {PADDOCKS}/*.caddy"
CADDYFILE = "/etc/caddy/Caddyfile"

READS = frozenset(
    (
        *("root", "dial", "certificate", "key", "folders", "pem_files", "trusted_ca_certs_pem_files", "root_ca_pem_files"),
        *("client_certificate_file", "client_certificate_key_file"),
    )
)
"""What Caddy calls files, directories and sockets that it is to read or call. All else that begins with a slash may be a secret."""

# Of the Caddyfile, what is neither Paddock's line, nor empty, nor a comment; nothing where it is as its package left it.
FOREIGN_SH = f"""{{ dpkg-query -W -f '${{Conffiles}}\\n' caddy | grep -qF " {CADDYFILE} $(md5sum <{CADDYFILE} | cut -d' ' -f1)" ||
    grep -vxF '{IMPORT}' {CADDYFILE} | grep -vE '^[[:space:]]*(#|$)'; }}"""

# Of each chain of nftables that drops what comes in: inet filter input 22 8000-8100
INPUT_SH = """{ ! command -v nft >/dev/null || nft list chains |
    awk '$1 == "table" { table = $2 " " $3 } $1 == "chain" { name = $2 } /hook input .*policy drop/ { print table, name }' |
    while read -r family table chain; do
      ports=$(nft list table "$family" "$table" | tr '\\n' ' ' | grep -oE 'dport (\\{[^}]*\\}|[0-9-]+)' | grep -oE '[0-9]+(-[0-9]+)?')
      echo "$family $table $chain" $ports
    done; }"""

IDENTITY_SH = f"""{{ [ ! -f {CADDYFILE} ] || {FOREIGN_SH}
  find /etc/caddy -path {PADDOCKS} -prune -o -path {CADDYFILE} -o -type f -printf '%p %T@ %s\\n'
  {INPUT_SH}
}}"""
"""Changes with the Caddyfile, with what it imports below /etc/caddy, and with what nftables drops that comes in."""

# In a mount namespace of its own Paddock's files are out of sight. What Caddy answers may hold secrets: none of it goes further than
# `caddyfile`. A container that may not mount anything says nothing.
ADAPT = as_unit("caddy.service", "caddy", f"timeout 20 caddy adapt --adapter caddyfile --config {CADDYFILE}", home="/var/lib/caddy")
HIDDEN = f"[ ! -d {PADDOCKS} ] || mount -t tmpfs -o mode=0755 tmpfs {PADDOCKS} || {{ echo {{}}; exit; }}; {ADAPT}"

COMMAND = f"""echo "#caddyfile"; if [ -f {CADDYFILE} ] && command -v caddy >/dev/null && {FOREIGN_SH} | grep -q .; then
    echo there; if unshare --mount true; then unshare --mount sh -c {quote(HIDDEN)}; else echo {{}}; fi | tr -d '\\n'; echo
  fi
echo "#input"
{INPUT_SH}"""
"""Prints the sections `#caddyfile` and `#input`."""


def caddyfile(lines: list[str]) -> Caddyfile | None:
    """None where it has nothing of somebody else's."""
    if not lines:
        return None
    try:
        return _adapted(from_json(lines[1]))
    except (IndexError, ValueError, OverflowError, AttributeError, TypeError):
        return Caddyfile(is_valid=False)


def _adapted(said: Mapping[str, Any]) -> Caddyfile:
    """Of what `caddy adapt` prints. Raises ValueError, OverflowError, AttributeError or TypeError where no Caddy prints that."""
    http = _of(_of(said, "apps"), "http")
    servers = [each for each in _of(http, "servers").values() if isinstance(each, dict)]
    http_port = int(http.get("http_port", 80))
    automatic = [_of(each, "automatic_https") for each in servers]
    admin = _of(said, "admin")
    reads, writes = _paths(said)
    return Caddyfile(
        listeners=tuple(_listeners(servers, http_port)),
        redirects=not any(each.get("disable") or each.get("disable_redirects") for each in automatic),
        certificates=not any(each.get("disable") or each.get("disable_certificates") for each in automatic),
        http_port=http_port,
        administration="off" if admin.get("disabled") else str(admin.get("listen", "")),
        reads=reads,
        writes=writes,
    )


def input_chains(lines: Iterable[str]) -> Iterator[InputChain]:
    """A line each: `inet filter input 22 8000-8100`."""
    for fields in map(str.split, lines):
        if len(fields) >= 3:
            yield InputChain(" ".join(fields[:3]), tuple(dict.fromkeys(fields[3:])))


def _listeners(servers: Iterable[Mapping[str, Any]], http_port: int) -> Iterator[Listener]:
    for server in servers:
        names, any_name = _names(server)
        automatic = _of(server, "automatic_https")
        addresses = [str(each) for each in server.get("listen", ()) if re.search(r":[0-9-]+$", str(each))]
        plain = all(each.endswith(f":{http_port}") for each in addresses)
        secured = set(names) - set(automatic.get("skip", ()))
        https = bool(server.get("tls_connection_policies")) or bool(secured and not plain and not automatic.get("disable"))
        for address in addresses:
            with_tls = tuple(each for each in names if each in _with_tls(server))
            yield Listener(address, names, with_tls, any_name, https, server.get("strict_sni_host") is not False)
            if https and not automatic.get("disable") and not automatic.get("disable_redirects"):
                yield Listener(f"{address.rpartition(':')[0]}:{http_port}", names, any_name=any_name, https=False, implied=True)


def _names(server: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """The names that its sites are limited to, and whether there is one that is not."""
    names: dict[str, None] = {}
    any_name = False
    for route in server.get("routes", ()):
        hosts = [name for match in route.get("match", ()) for name in match.get("host", ())]
        names.update(dict.fromkeys(str(each).lower() for each in hosts))
        any_name = any_name or not hosts
    return tuple(names), any_name


def _with_tls(server: Mapping[str, Any]) -> frozenset[str]:
    """The names for which a server has a policy of their own."""
    policies = (each for each in server.get("tls_connection_policies") or () if isinstance(each, dict))
    return frozenset(str(name).lower() for each in policies for name in _of(each, "match").get("sni", ()))


def _paths(said: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What it all reads and what it writes, each as an absolute path."""
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    left: list[tuple[str, Any, bool]] = [("", said, False)]
    while left:
        key, value, stored = left.pop()
        if isinstance(value, dict):
            left += [(name, each, stored or key == "storage") for name, each in value.items()]
        elif isinstance(value, list):
            left += [(key, each, stored) for each in value]
        elif isinstance(value, str) and (path := value.removeprefix("unix/").partition("|")[0]).startswith("/"):
            if key in ("filename", "listen") or (stored and key == "root"):
                writes[path] = None
            elif key in READS:
                reads[path] = None
    return tuple(sorted(reads)), tuple(sorted(writes))


def _of(said: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object of JSON in another; empty where it is not there."""
    found = said.get(key)
    return found if isinstance(found, dict) else {}

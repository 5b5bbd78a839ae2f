"""The certificates that a fleet has, and who is to have one.

A certificate is in use once its record, `certs/<kind>/<name>.json`, is written; that comes last, after the key and the
certificate, and holds digests of both. So a run that dies leaves a whole pair in use or none, and looking at what is there
needs no X.509: cryptography, whose import costs more than all the rest, is loaded only to issue.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from control.secrets import Vault
from control.state import FleetState, read, sync_directory, write_atomically
from inventory.context import Certificate
from inventory.errors import PaddockError
from inventory.schema import Fleet
from roles.caddy.settings import CaddySettings

SERVER_DAYS = 90
KINDS = ("server", "client")


@dataclass(frozen=True)
class Subject:
    """Who is to have a certificate. `names` and `addresses` are what it stands for besides the name in its subject."""

    kind: str
    name: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    days: int

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Leaf:
    """A certificate that was issued. `ca`, `certificate` and `key` are sha256 digests of the PEM texts."""

    kind: str
    name: str
    serial: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    ca: str
    certificate: str
    key: str

    def why_not(self, now: datetime) -> str:
        """Why its time has come, in words; empty while more than a third of its life is left."""
        left = self.not_after - now
        if left <= timedelta(0):
            return f"expired on {self.not_after:%Y-%m-%d}"
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if left < (self.not_after - self.not_before) / 3:
            return f"expires in {left.days} days" if left.days > 1 else f"expires in {left // timedelta(hours=1)} hours"
        return ""


class Leaves:
    """The pairs of key and certificate in `certs/`."""

    def __init__(self, state: FleetState, vault: Vault) -> None:
        self._state = state
        self._vault = vault

    def pair(self, kind: str, name: str) -> tuple[Leaf | None, Certificate | None, str]:
        """What was issued, with its key, or why the files there are no pair."""
        leaf, chain = self.leaf(kind, name), read(self._file(kind, name, "pem"))
        if leaf is None:
            return None, None, "new" if chain is None else "was never finished"
        if chain is None or hashlib.sha256(chain).hexdigest() != leaf.certificate:
            return leaf, None, "its certificate is missing or another one"
        if not self._vault.has(_key_name(kind, name)):
            return leaf, None, "its key is missing"
        key = self._vault.unseal(_key_name(kind, name))
        if hashlib.sha256(key).hexdigest() != leaf.key:
            return leaf, None, "its key is another one"
        return leaf, Certificate(chain.decode(), key.decode()), ""

    def leaf(self, kind: str, name: str) -> Leaf | None:
        """The record of what was issued."""
        record = read(self._file(kind, name, "json"))
        try:
            values = json.loads(record or b"{}")
            times = {key: datetime.fromisoformat(values[key]) for key in ("not_before", "not_after")}
            lists = {key: tuple(values[key]) for key in ("names", "addresses")}
            leaf = Leaf(**{**values, **times, **lists})
        except (ValueError, TypeError, KeyError):
            return None
        return leaf if (leaf.kind, leaf.name) == (kind, name) else None

    def names(self) -> list[tuple[str, str]]:
        """The kind and name of all that has a certificate, or any part of one."""
        found = set()
        for kind in KINDS:
            for path in (self._state.path / "certs" / kind).glob("[!.]*"):
                found.add((kind, path.name.removesuffix(".json").removesuffix(".pem").removesuffix(".key.age")))
        return sorted(found)

    def left_over(self, subjects: Iterable[Subject]) -> list[tuple[str, str]]:
        wanted = {(subject.kind, subject.name) for subject in subjects}
        return [each for each in self.names() if each not in wanted]

    def keep(self, leaf: Leaf, chain: str, key: str) -> None:
        """Take a pair into use: the key, the certificate, then the record that vouches for both."""
        self._state.directory("certs", leaf.kind)
        self._vault.seal(_key_name(leaf.kind, leaf.name), key.encode())
        write_atomically(self._file(leaf.kind, leaf.name, "pem"), chain, 0o644)
        record = json.dumps(dataclasses.asdict(leaf), indent=1, default=str)
        write_atomically(self._file(leaf.kind, leaf.name, "json"), record + "\n", 0o644)

    def retire(self, kind: str, name: str) -> None:
        """Take a pair out of use, the record first. The certificate is kept to tell what was revoked, its key is not."""
        leaf, chain = self.leaf(kind, name), read(self._file(kind, name, "pem"))
        revoked = self._state.directory("certs", "revoked", kind)
        serial = leaf.serial if leaf else hashlib.sha256(chain or b"").hexdigest()[:32]
        for suffix in ("json", "pem"):
            with suppress(FileNotFoundError):
                self._file(kind, name, suffix).replace(revoked / f"{name}-{serial}.{suffix}")
        key = self._vault.path(_key_name(kind, name))
        key.unlink(missing_ok=True)
        if kind == "client":
            shutil.rmtree(self._state.path / "export" / name, ignore_errors=True)
        sync_directory(revoked)
        sync_directory(key.parent)

    def _file(self, kind: str, name: str, suffix: str) -> Path:
        return self._state.path / "certs" / kind / f"{name}.{suffix}"


def subjects_of(fleet: Fleet) -> list[Subject]:
    """Every site that a Caddy of the fleet answers for, and every client.

    A server's addresses are those of its hosts that lie in the fleet's networks. Raises PaddockError for a site outside the domain.
    """
    return [*_servers(fleet), *(Subject("client", name, (), (), client.days) for name, client in sorted(fleet.clients.items()))]


def _servers(fleet: Fleet) -> Iterator[Subject]:
    addresses: dict[str, set[str]] = {}
    for host in fleet.hosts_with("caddy"):
        caddy = fleet.role(host.name, "caddy", CaddySettings)
        for site in caddy.sites if caddy else ():
            if site != fleet.domain and not site.endswith(f".{fleet.domain}"):
                raise PaddockError(
                    f"hosts.{host.name}.roles.caddy.sites: {site} is outside the fleet's domain, {fleet.domain}, its CA cannot sign for it"
                )
            addresses.setdefault(site, set()).update({host.address} if _within(host.address, fleet.networks) else ())
    for site, found in sorted(addresses.items()):
        yield Subject("server", site, (site,), tuple(sorted(found)), SERVER_DAYS)


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        return any(ip_address(address) in ip_network(network) for network in networks)
    except ValueError:
        return False  # a name, which stands in no IP SAN


def digest(pem: str) -> str:
    """The sha256 of a PEM text, in hex."""
    return hashlib.sha256(pem.encode()).hexdigest()


def _key_name(kind: str, name: str) -> str:
    return f"certs/{kind}/{name}.key"

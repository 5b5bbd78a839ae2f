"""Every certificate of a fleet: who holds it, until when, and where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from control.pki.authority import Authority, seats
from control.pki.leaves import Leaf, Record, subjects_of
from inventory.fleet import Fleet

ORDER = ("server", "host", "client")


@dataclass(frozen=True)
class Listed:
    """`kind` is CA, server, host or client. `until` is None where there is no certificate; `where` are hosts, sites, and accounts of
    hosts."""

    kind: str
    name: str
    serial: str
    until: datetime | None
    days_left: int | None
    status: str
    issuer: str
    where: tuple[str, ...] = ()


def listed(authority: Authority, fleet: Fleet, now: datetime) -> list[Listed]:
    """The CAs, then the servers, the hosts and the clients, of which one that was renewed may have several. Raises PaddockError."""
    names = _issuer_names(authority)
    records = dict(authority.records())
    wanted = {(each.kind, each.name): each for each in subjects_of(fleet)}
    found = list(_cas(authority, now))
    for kind, name in sorted({*records, *wanted}, key=lambda each: (ORDER.index(each[0]), each[1])):
        record = records.get((kind, name), Record())
        where = _servers_of(fleet, name) if kind == "server" else (name,) if kind == "host" else _sites_of(fleet, name)
        kept = _accounts_of(fleet, name) if kind == "client" else ()
        is_wanted = (kind, name) in wanted
        if record.revoked:
            status = f"revoked on {record.revoked.on:%Y-%m-%d}"
            found += [Listed(kind, name, serial, None, None, status, "") for serial in record.revoked.serials or ("",)]
        elif record.current:
            status = _status(authority, record.current, now) if is_wanted else "no longer in the inventory"
            found.append(_listed(record.current, status, (*where, *kept) if is_wanted else (), names, now))
        elif is_wanted:
            found.append(Listed(kind, name, "", None, None, "to be issued", ""))
        found += [_listed(leaf, _earlier(leaf, names, now), where if is_wanted else (), names, now) for leaf in record.earlier]
    return found


def _cas(authority: Authority, now: datetime) -> Iterator[Listed]:
    from control.pki import certificates

    standing = authority.cas.standing()
    for ca in authority.cas.trusted():
        words = ["signs"] if ca.id == standing.signing else ["signs next"] if ca.id == standing.next else ["is trusted"]
        words += ["without name constraints"] if ca.domain is None else []
        words += ["its key is missing"] if ca.id in (standing.signing, standing.next) and not authority.cas.has_key(ca) else []
        name, serial = certificates.common_name_of(ca.pem), certificates.serial_of(ca.pem)
        yield Listed("CA", name, serial, ca.not_after, _days(ca.not_after, now), ", ".join(words), name)


def _issuer_names(authority: Authority) -> dict[str, str]:
    """The names of the CAs that are trusted, by digest."""
    from control.pki import certificates

    return {ca.digest: certificates.common_name_of(ca.pem) for ca in authority.cas.trusted()}


def _listed(leaf: Leaf, status: str, where: tuple[str, ...], names: dict[str, str], now: datetime) -> Listed:
    issuer = names.get(leaf.ca, "a CA that is not trusted")
    return Listed(leaf.kind, leaf.name, leaf.serial, leaf.not_after, _days(leaf.not_after, now), status, issuer, where)


def _status(authority: Authority, leaf: Leaf, now: datetime) -> str:
    signing = authority.cas.signing()
    if why := leaf.why_not(now):
        return f"to be renewed: {why}"
    return "in use" if signing and leaf.ca == signing.digest else "to be renewed: made by another CA"


def _earlier(leaf: Leaf, names: dict[str, str], now: datetime) -> str:
    if leaf.not_after <= now:
        return f"expired on {leaf.not_after:%Y-%m-%d}"
    return "earlier, still let in" if leaf.ca in names else "earlier, shut out with its CA"


def _days(until: datetime, now: datetime) -> int:
    return max(0, (until - now).days)


def _servers_of(fleet: Fleet, site: str) -> tuple[str, ...]:
    return tuple(each.host for each in fleet.entrances() if each.name == site)


def _sites_of(fleet: Fleet, client: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.name for each in fleet.entrances(client)))


def _accounts_of(fleet: Fleet, client: str) -> tuple[str, ...]:
    return tuple(f"{account}@{host}" for host in fleet.hosts for account, held in seats(fleet, host).items() if held == client)

"""Who has been thrown out, as the hosts that let clients in keep it: a state that is older than they are can take it from there.

client phone 2026-11-29T14:45:11Z       is thrown out, until `certs issue` admits it again
certificate phone 3f2a90c1d4e5b687      is never let in again, by its serial number in hex
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from control.pki.leaves import Leaves, Record, Revoked
from inventory.bounds import REVOCATIONS
from resources import lines_of
from roles.role import LABEL

TIME = "%Y-%m-%dT%H:%M:%SZ"
FOREVER = datetime.max.replace(tzinfo=UTC)
HEAD = "# Written by Paddock: who has been thrown out. `paddock state adopt` reads it where the state was lost.\n"

CLIENT = re.compile(rf"client (?P<name>{LABEL}) (?P<on>[0-9-]{{10}}T[0-9:]{{8}}Z)")
CERTIFICATE = re.compile(rf"certificate (?P<name>{LABEL}) (?P<serial>[0-9a-f]{{1,64}})")


@dataclass(frozen=True)
class Revocations:
    """Client → since when it is thrown out, and by client the serials of certificates that are."""

    clients: dict[str, datetime] = field(default_factory=dict)
    serials: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As hosts keep it; empty where nobody is thrown out."""
        clients = [f"client {name} {on.astimezone(UTC).strftime(TIME)}\n" for name, on in sorted(self.clients.items())]
        serials = [f"certificate {name} {serial}\n" for name, found in sorted(self.serials.items()) for serial in sorted(found)]
        return HEAD + "".join((*clients, *serials)) if clients or serials else ""


def revocations(leaves: Leaves) -> Revocations:
    """Those of a state, without certificates whose end is long past. Raises PaddockError where a record is damaged."""
    records = {name: leaves.record(kind, name) for kind, name in leaves.names() if kind == "client"}
    revoked = {name: record.revoked for name, record in records.items() if record.revoked}
    out = {*leaves.retired("client"), *((name, serial) for name, each in revoked.items() for serial in each.serials)}
    found = Revocations({name: each.on for name, each in revoked.items()}, _by_client(out - leaves.over("client")))
    return found if len(found.text) <= REVOCATIONS.size else _bounded(found, leaves)


def _by_client(certificates: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    serials: dict[str, set[str]] = {}
    for name, serial in certificates:
        serials.setdefault(name, set()).add(serial)
    return {name: frozenset(each) for name, each in serials.items()}


def _bounded(found: Revocations, leaves: Leaves) -> Revocations:
    """As much as hosts are asked for: the clients first, those that were thrown out last before the others, and then the certificates that
    are good for longest."""
    left, ends = REVOCATIONS.size - len(HEAD), leaves.ends("client")
    latest = sorted(found.clients.items(), key=lambda each: each[1], reverse=True)
    lines = [(Revocations({name: on}), (name, "")) for name, on in latest]
    pairs = [(name, serial) for name, each in found.serials.items() for serial in each]
    pairs.sort(key=lambda pair: (ends.get(pair, FOREVER), pair), reverse=True)
    lines += [(Revocations({}, {pair[0]: frozenset((pair[1],))}), pair) for pair in pairs]
    kept = []
    for line, pair in lines:
        left -= len(line.text) - len(HEAD)
        if left < 0:
            break
        kept.append(pair)
    clients = {name: found.clients[name] for name, serial in kept if not serial}
    return Revocations(clients, _by_client(pair for pair in kept if pair[1]))


def read(lines: Iterable[str]) -> Revocations:
    """What hosts say, of one or of several; lines that nobody can read are passed over, a host may say anything."""
    clients: dict[str, datetime] = {}
    serials: dict[str, set[str]] = {}
    for line in lines:
        if found := CLIENT.fullmatch(line):
            try:
                on = datetime.strptime(found["on"], TIME).replace(tzinfo=UTC)
            except ValueError:
                continue
            clients[found["name"]] = min(on, clients.get(found["name"], on))
        elif found := CERTIFICATE.fullmatch(line):
            serials.setdefault(found["name"], set()).add(found["serial"])
    return Revocations(clients, {name: frozenset(each) for name, each in serials.items()})


def merged(each: Iterable[Revocations]) -> Revocations:
    """What several hosts say, as one."""
    return read(line for one in each for line in lines_of(one.text))


def lacking(leaves: Leaves, theirs: Revocations) -> list[str]:
    """What a state does not know of these, a line each: `client phone was revoked on 2026-11-29`."""
    lines = []
    for name in sorted({*theirs.clients, *theirs.serials}):
        record = leaves.record("client", name)
        if name in theirs.clients and not record.revoked:
            lines.append(f"client {name} was revoked on {theirs.clients[name]:%Y-%m-%d}")
        elif gone := [leaf.serial for leaf in record.leaves if leaf.serial in theirs.serials.get(name, ())]:
            lines.append(f"certificate {', '.join(gone)} of client {name} is let in no more")
    return lines


def take(leaves: Leaves, theirs: Revocations) -> None:
    """Makes them the state's own. The caller holds the lock."""
    for name in sorted({*theirs.clients, *theirs.serials}):
        record, serials = leaves.record("client", name), theirs.serials.get(name, frozenset())
        if name in theirs.clients and not record.revoked:
            held = (leaf.serial for leaf in record.leaves)
            leaves.write_record("client", name, Record(revoked=Revoked(theirs.clients[name], tuple(sorted({*serials, *held})))))
        elif any(leaf.serial in serials for leaf in record.leaves):
            current = record.current if record.current and record.current.serial not in serials else None
            earlier = tuple(leaf for leaf in record.earlier if leaf.serial not in serials)
            leaves.write_record("client", name, Record(current, earlier, record.revoked))

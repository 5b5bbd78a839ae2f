"""The certificates that a fleet has, and who is to have one.

What there is of a subject says its record, `certs/<kind>/<name>.json`: the pair in use, for a client also the earlier certificates that
are still let in, or that it is thrown out. Keys and certificates lie beside it under their serials and never change, and the record is
replaced whole, last: a run that dies leaves the old pair in use or the new one. It holds digests of both, so that looking at what is
there needs no X.509: cryptography, whose import costs more than all the rest, is loaded only to issue.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import cache, reduce
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter

from control.state.fleet import FleetState, in_words, read, sync_directory, write_atomically
from control.state.lineage import note_change
from control.state.secrets import Vault
from inventory.bounds import from_json
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Certificate
from resources import UNOPENED
from roles.server import SERVER_DAYS

HOST_DAYS = SERVER_DAYS
UNLISTED_AFTER = timedelta(days=30)
"""So long after its end hosts are still told of a certificate that was thrown out: clocks may be wrong."""
KINDS = ("server", "client", "host")
SUFFIXES = (".json", ".pem", ".key.age")
"""What the files of a subject are called after its name."""


@dataclass(frozen=True)
class Subject:
    """Who is to have a certificate. `names` are what it stands for besides the name in its subject. No address: to a caller who names no
    site, Caddy would show a certificate of the address that is called, and so the site's name."""

    kind: str
    name: str
    names: tuple[str, ...]
    days: int

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def common_name(self) -> str:
        """Of a host one that no client and no site can have; nor has it a name in its SAN by which somebody could take it for a site."""
        return f"host {self.name}" if self.kind == "host" else self.name

    def marks(self, serial: str, before: Leaf | None) -> tuple[str, ...]:
        """Of a host's certificate, further common names: its own, and that of the one `before` it. Who knows that one by its mark takes
        the next one too, and who knows the next one takes that one no more."""
        return tuple(f"host {each}" for each in (serial, *([before.serial] if before else []))) if self.kind == "host" else ()


@dataclass(frozen=True)
class Leaf:
    """A certificate that was issued. `ca`, `certificate` and `key` are sha256 digests of the PEM texts. `marks` are a host's: its own
    comes first."""

    kind: str
    name: str
    serial: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: AwareDatetime
    not_after: AwareDatetime
    ca: str
    certificate: str
    key: str
    """Empty where only who brought the certificate along has its key."""
    files: str = ""
    """Where its files lie, seen from `certs/<kind>/` and without suffix: `laptop/4f1c…`."""
    marks: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        return next(iter(self.marks), "")

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


@dataclass(frozen=True)
class Revoked:
    """That a client was thrown out, and with which certificates."""

    on: AwareDatetime
    serials: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """All that there is of a subject. `earlier` are the certificates before `current`, which stay good until they expire."""

    current: Leaf | None = None
    earlier: tuple[Leaf, ...] = ()
    revoked: Revoked | None = None

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return (*([self.current] if self.current else []), *self.earlier)


KEYS = frozenset(each.name for each in fields(Record))


class Leaves:
    """The pairs of key and certificate in `certs/`."""

    def __init__(self, state: FleetState, vault: Vault) -> None:
        self._state = state
        self._vault = vault

    def record(self, kind: str, name: str) -> Record:
        """What there is of a subject; an empty one where nothing is. Raises PaddockError where its record is damaged."""
        path = self._file(kind, name, "json")
        text = read(path)
        if text is None:
            return Record()
        try:
            values = from_json(text)
            if "serial" in values:  # of one certificate alone, as it once was
                values = {"current": {**values, "files": name}}
            record = (
                _record_type().validate_python(values, strict=False)
                if isinstance(values, dict) and values and values.keys() <= KEYS
                else None
            )
        except (ValueError, TypeError):
            record = None
        if record is None or any((leaf.kind, leaf.name) != (kind, name) for leaf in record.leaves):
            raise PaddockError(
                f"{path}: is damaged: put it back from a backup or from git, or delete it: "
                f"then {kind} {name} gets a new certificate, also if it was revoked"
            )
        return record

    def pair(self, kind: str, name: str) -> tuple[Leaf | None, Certificate | None, str]:
        """The pair in use, with its key (UNOPENED from a vault that only looks), or why there is none."""
        record = self.record(kind, name)
        leaf = record.current
        if record.revoked:
            return None, None, f"revoked on {record.revoked.on:%Y-%m-%d}"
        if leaf is None:
            return None, None, "was never finished" if self._has_any(kind, name) and not record.earlier else "new"
        chain = self.chain(leaf)
        if chain is None:
            return leaf, None, "its certificate is missing or another one"
        if not self._vault.has(_key_name(leaf)):
            return leaf, None, "its key is missing"
        key = self._vault.unseal(_key_name(leaf))
        if key != UNOPENED.encode() and hashlib.sha256(key).hexdigest() != leaf.key:
            return leaf, None, "its key is another one"
        return leaf, Certificate(chain, key.decode(), leaf.mark), ""

    def chain(self, leaf: Leaf) -> str | None:
        """Its PEM text, None where that is missing or another one."""
        chain = read(self._file(leaf.kind, leaf.files, "pem"))
        return chain.decode() if chain is not None and hashlib.sha256(chain).hexdigest() == leaf.certificate else None

    def names(self) -> list[tuple[str, str]]:
        """The kind and name of all that has a certificate, or any part of one."""
        found = set()
        for kind in KINDS:
            for path in (self._state.path / "certs" / kind).glob("[!.]*"):
                found.add((kind, reduce(str.removesuffix, SUFFIXES, path.name)))
        return sorted(found)

    def _has_any(self, kind: str, name: str) -> bool:
        """Whether it is among the `names`."""
        with suppress(OSError):  # a name may be too long for a file
            return any((self._state.path / "certs" / kind / f"{name}{suffix}").exists() for suffix in ("", *SUFFIXES))
        return False

    def left_over(self, subjects: Iterable[Subject]) -> list[tuple[str, str]]:
        """What nobody is to have any more. That a client was revoked stays noted, also where it has left the inventory."""
        wanted = {(subject.kind, subject.name) for subject in subjects}
        return [each for each in self.names() if each not in wanted and not self.record(*each).revoked]

    def keep(self, leaf: Leaf, chain: str, key: str, now: datetime) -> None:
        """Take a pair into use: the key, the certificate, then the record that names both.

        A client's last one stays good beside it, and so does a host's; of a client one whose time is over stays noted. One of ours that has
        not begun does not: it was made under a wrong clock.
        """
        record = self.record(leaf.kind, leaf.name)
        leaf = replace(leaf, files=f"{leaf.name}/{leaf.serial}")
        self._state.directory("certs", leaf.kind, leaf.name)
        self._vault.seal(_key_name(leaf), key.encode())
        write_atomically(self._file(leaf.kind, leaf.files, "pem"), chain, 0o644)
        before = record.leaves if leaf.kind in ("client", "host") else ()
        earlier = tuple(each for each in before if (not each.key or each.not_before <= now) and self.chain(each))
        if leaf.kind == "host":  # nobody carries one about: what is over is not missed
            earlier = tuple(each for each in earlier if now < each.not_after)[:1]
        self.write_record(leaf.kind, leaf.name, Record(leaf, earlier))

    def keep_earlier(self, leaf: Leaf, chain: str) -> None:
        """Let in a certificate that was made elsewhere."""
        record = self.record(leaf.kind, leaf.name)
        leaf = replace(leaf, files=f"{leaf.name}/{leaf.serial}")
        self._state.directory("certs", leaf.kind, leaf.name)
        write_atomically(self._file(leaf.kind, leaf.files, "pem"), chain, 0o644)
        others = tuple(each for each in record.earlier if each.serial != leaf.serial)
        self._write(leaf.kind, leaf.name, replace(record, earlier=(*others, leaf)))

    def drop_earlier(self, kind: str, name: str, serials: Collection[str]) -> None:
        record = self.record(kind, name)
        earlier = tuple(each for each in record.earlier if each.serial not in serials)
        self.write_record(kind, name, replace(record, earlier=earlier))

    def revoke(self, kind: str, name: str, now: datetime) -> None:
        """Throw a subject out, with every certificate that it has."""
        serials = tuple(leaf.serial for leaf in self.record(kind, name).leaves)
        self.write_record(kind, name, Record(revoked=Revoked(now, serials)))

    def retire(self, kind: str, name: str) -> None:
        """Take a subject out of the books, the record first. Its certificates are kept to tell what was once in use, its keys are not."""
        record = self.record(kind, name)
        serial = next((leaf.serial for leaf in record.leaves), "none")
        note_change(self._state)
        with suppress(FileNotFoundError):
            self._file(kind, name, "json").replace(self._retired(kind) / f"{name}-{serial}.json")
        _sync(self._retired(kind))
        self.sweep(kind, name)

    def retired(self, kind: str) -> list[tuple[str, str]]:
        """The name and serial of each certificate that is let in no more, also those of `over`."""
        return sorted(self._kept("revoked", kind) | self._kept("over", kind))

    def over(self, kind: str) -> frozenset[tuple[str, str]]:
        """The name and serial of each certificate that is let in no more and that is past its end: nobody need be told of it."""
        return frozenset(self._kept("over", kind))

    def put_by(self, kind: str, now: datetime) -> None:
        """Move what is let in no more to `over`, once its end is so long past that no clock takes it for good."""
        for path in (self._state.path / "certs" / "revoked" / kind).glob("[!.]*.pem"):
            if (end := _end(path)) and end + UNLISTED_AFTER <= now:
                path.replace(self._state.directory("certs", "over", kind) / path.name)

    def ends(self, kind: str) -> dict[tuple[str, str], datetime]:
        """When each certificate that is let in no more ends, by its name and serial; one that cannot be read is left out."""
        paths = (self._state.path / "certs" / "revoked" / kind).glob("[!.]*.pem")
        return {_named(path): end for path in paths if (end := _end(path))}

    def _kept(self, where: str, kind: str) -> set[tuple[str, str]]:
        return {_named(path) for path in (self._state.path / "certs" / where / kind).glob("[!.]*.pem")}

    def write_record(self, kind: str, name: str, record: Record) -> None:
        """Replaces what is noted of a subject, and takes away what is named no more. Raises PaddockError where that cannot be: what is
        noted holds all the same."""
        self._write(kind, name, record)
        with in_words(self._state.path / "certs" / kind, f"{kind} {name}: is noted, but an earlier file of it cannot be taken away"):
            self.sweep(kind, name)

    def sweep(self, kind: str, name: str) -> None:
        """Take away what the record does not name: keys for good; a client's certificates, and those of who has left, to `revoked/`."""
        record = self.record(kind, name)
        named = {self._file(kind, leaf.files, "pem") for leaf in record.leaves}
        named |= {self._file(kind, record.current.files, "key.age")} if record.current else set()
        directory = self._state.path / "certs" / kind / name
        parts = [self._file(kind, name, "key.age"), self._file(kind, name, "pem"), *sorted(directory.glob("*"))]
        for path in parts:
            if path in named or not path.is_file():
                continue
            if path.suffix == ".pem" and (kind == "client" or not record.current):
                path.replace(self._retired(kind) / f"{name}-{self._serial(path)}.pem")
            else:
                path.unlink()
        if not record.leaves:
            shutil.rmtree(directory, ignore_errors=True)
        if kind == "client" and not record.current:
            shutil.rmtree(self._state.path / "export" / name, ignore_errors=True)
        _sync(*([directory] if directory.is_dir() else []), self._state.directory("certs", kind))

    def _serial(self, path: Path) -> str:
        """Of a certificate that lies under its serial; an older one lies under its name, and has a digest in its place."""
        return path.stem if path.parent.parent.name in KINDS else hashlib.sha256(path.read_bytes()).hexdigest()[:32]

    def _retired(self, kind: str) -> Path:
        return self._state.directory("certs", "revoked", kind)

    def _write(self, kind: str, name: str, record: Record) -> None:
        self._state.directory("certs", kind)
        note_change(self._state)
        write_atomically(self._file(kind, name, "json"), _record_type().dump_json(record, indent=1) + b"\n", 0o644)

    def _file(self, kind: str, name: str, suffix: str) -> Path:
        return self._state.path / "certs" / kind / f"{name}.{suffix}"


def earlier_of(record: Record, now: datetime, cas: Collection[str], *, with_current: bool = False) -> tuple[Leaf, ...]:
    """The certificates beside the one in use that are still let in at `now`, of those that one of these CAs has made (by digest)."""
    leaves = record.leaves if with_current else record.earlier
    return tuple(leaf for leaf in leaves if leaf.not_before <= now < leaf.not_after and leaf.ca in cas)


def subjects_of(fleet: Fleet) -> list[Subject]:
    """Every name that needs a certificate of the fleet's CA on a server, every client, and every host that shows one to another host.

    Raises PaddockError for a site outside the domain.
    """
    clients = (Subject("client", name, (), client.days) for name, client in sorted(fleet.clients.items()))
    hosts = (Subject("host", name, (), HOST_DAYS) for name in sorted(fleet.tunnel_ends))
    return [*_servers(fleet), *clients, *hosts]


def sites_only_on(hosts: Collection[str], fleet: Fleet) -> frozenset[str]:
    """The names that need a certificate on these hosts and on no other."""
    if not hosts:
        return frozenset()
    others = {name: host for name, host in fleet.hosts.items() if name not in hosts}
    elsewhere = {each.name for each in _servers(fleet.model_copy(update={"hosts": others}))}
    return frozenset(each.name for each in _servers(fleet) if each.name not in elsewhere)


def _servers(fleet: Fleet) -> Iterator[Subject]:
    wanted = (
        (host, f"roles.{role}.{key}", name)
        for host in fleet.hosts.values()
        for role, settings in host.carried.items()
        for name, key in settings.server_names()
    )
    names = set()
    for host, key, name in wanted:
        if name != fleet.domain and not name.endswith(f".{fleet.domain}"):
            words = f"{name} is outside the fleet's domain, {fleet.domain}, its CA cannot sign for it"
            raise PaddockError(f"hosts.{host.name}.{key}: {words}")
        names.add(name)
    for name in sorted(names):
        yield Subject("server", name, (name,), SERVER_DAYS)


def digest(pem: str) -> str:
    """The sha256 of a PEM text, in hex."""
    return hashlib.sha256(pem.encode()).hexdigest()


def _named(path: Path) -> tuple[str, str]:
    """`phone-3f2a.pem`"""
    name, _, serial = path.stem.rpartition("-")
    return name, serial


def _end(path: Path) -> datetime | None:
    from control.pki import certificates

    try:
        return certificates.life_of((read(path) or b"").decode())[1]
    except ValueError:
        return None


def _sync(*directories: Path) -> None:
    for directory in directories:
        try:
            sync_directory(directory)
        except OSError as error:
            raise PaddockError(f"{directory}: cannot be written: {error.strerror}") from None


def _key_name(leaf: Leaf) -> str:
    return f"certs/{leaf.kind}/{leaf.files}.key"


@cache
def _record_type() -> TypeAdapter[Record]:
    return TypeAdapter(Record)

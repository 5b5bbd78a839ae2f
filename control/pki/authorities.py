"""The fleet's certificate authorities: each lies unchanged in a directory of its own, and one small file says which counts.

    certs/authorities.json         the one that signs, the one that is to sign next, and all that are trusted; replaced whole
    certs/authorities/<id>/        ca.pem, key.age, and ca.json, which says what the CA is limited to

`<id>` is the beginning of the key identifier, which also stands in the name of a CA that Paddock makes. In an older state the one CA lies
in ca.pem, ca.key.age and ca.json: it is read there, and taken over when something is next to be kept.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from control.pki.leaves import digest
from control.state.fleet import FleetState, read, sync_directory, write_atomically
from control.state.lineage import note_change
from control.state.secrets import Vault
from inventory.bounds import from_json
from inventory.errors import PaddockError
from inventory.fleet import Fleet

ID = re.compile(r"[0-9a-f]{8}")

FIRST = ""
"""In place of an id: the CA of an older state."""


@dataclass(frozen=True)
class Issuer:
    """One CA. `domain` is None where it may sign for any name."""

    id: str
    pem: str
    domain: str | None
    networks: frozenset[str]
    not_after: datetime

    @property
    def digest(self) -> str:
        return digest(self.pem)

    def fits(self, fleet: Fleet) -> bool:
        return self.domain is None or (self.domain, self.networks) == (fleet.domain, frozenset(fleet.networks))


@dataclass(frozen=True)
class Standing:
    """Which CAs count, by id. `signing` is None where only CAs of others are trusted, `next` while no change to another CA is begun."""

    signing: str | None = None
    trusted: tuple[str, ...] = ()
    next: str | None = None


class Authorities:
    def __init__(self, state: FleetState, vault: Vault) -> None:
        self._state = state
        self._vault = vault

    @property
    def path(self) -> Path:
        """The file that says which CA counts."""
        return self._state.path / "certs" / "authorities.json"

    def standing(self) -> Standing:
        """Raises PaddockError where what says it is damaged."""
        text = read(self.path)
        if text is None:
            if (self._state.path / "ca.pem").exists():
                return Standing(FIRST, (FIRST,))
            # A run that died before it wrote this file had signed nothing; whoever wants another CA has moved the old ones away.
            if any(self.path.with_suffix("").glob("*/ca.pem")) and any(self.path.parent.glob("*/*.json")):
                words = f"is missing: put it back from a backup or from git; the CAs that it is about lie in {self.path.with_suffix('')}"
                raise PaddockError(f"{self.path}: {words}")
            return Standing()
        try:
            values = from_json(text)
            found = Standing(values["signing"], tuple(values["trusted"]), values["next"])
            named = {found.signing, found.next} - {None}
            if all(isinstance(each, str) and ID.fullmatch(each) for each in found.trusted) and named <= set(found.trusted):
                return found
        except (ValueError, TypeError, KeyError):
            pass
        raise PaddockError(f"{self.path}: is damaged: put it back from a backup or from git; the CAs are in {self.path.with_suffix('')}")

    def issuer(self, id: str) -> Issuer:
        """Raises PaddockError where it is missing or damaged."""
        path = self.directory(id) / "ca.pem"
        data = read(path)
        if data is None:
            raise PaddockError(f"{path}: the CA's certificate is missing: put it back from a backup or from git")
        pem = data.decode(errors="replace")
        return self._as_noted(id, pem) or self._as_certified(id, pem, path)

    def signing(self) -> Issuer | None:
        found = self.standing().signing
        return None if found is None else self.issuer(found)

    def trusted(self) -> tuple[Issuer, ...]:
        """The one that signs comes first."""
        standing = self.standing()
        return tuple(self.issuer(each) for each in sorted(standing.trusted, key=lambda id: id != standing.signing))

    def key(self, issuer: Issuer) -> str:
        """The CA's private key. Raises PaddockError where it is missing, or another's."""
        from control.pki import certificates

        path = self._vault.path(self._key_name(issuer.id))
        advice = "put it back from a backup or from git, or change to a new CA: `paddock certs roll-over begin`"
        if not path.is_file():
            raise PaddockError(f"{path}: the CA's key is missing, nothing can be issued without it: {advice}")
        key = self._vault.unseal(self._key_name(issuer.id)).decode(errors="replace")
        with suppress(ValueError):
            if certificates.belongs(issuer.pem, key):
                return key
        raise PaddockError(f"{path}: is not the key of the CA beside it, nothing can be issued without that: {advice}")

    def has_key(self, issuer: Issuer) -> bool:
        return self._vault.has(self._key_name(issuer.id))

    def make(self, fleet: Fleet, now: datetime) -> Issuer:
        """A new CA for what the inventory says. Nobody trusts it before `point` says so."""
        from control.pki import certificates

        key = certificates.new_key()
        return self.add(certificates.make_ca(key, fleet.name, fleet.domain, fleet.networks, now), key)

    def add(self, pem: str, key: str | None) -> Issuer:
        """Keep a CA; its key is sealed first."""
        from control.pki import certificates

        id = certificates.id_of(pem)
        directory = self._state.directory("certs", "authorities", id)
        if key is not None:
            self._vault.seal(self._key_name(id), key.encode())
        limits = certificates.limits_of(pem)
        self._note(directory, pem, Issuer(id, pem, limits.domain, frozenset(limits.networks), limits.not_after))
        return self.issuer(id)

    def point(self, standing: Standing) -> None:
        """From now on these CAs count: the one write that each change of them takes effect with."""
        text = json.dumps({"signing": standing.signing, "trusted": standing.trusted, "next": standing.next}, indent=1)
        self._state.directory("certs")
        note_change(self._state)
        try:
            write_atomically(self.path, text + "\n", 0o644, exclusive=not self.path.exists())
        except FileExistsError:
            raise PaddockError(f"{self.path}: another run has just made it: start again") from None

    def take_over(self) -> None:
        """Move an older state's CA to where it belongs, its old files last, and take away what died half-made."""
        first = self._state.path / "ca.pem"
        if self.standing().signing == FIRST:
            issuer = self.issuer(FIRST)
            from control.pki import certificates

            id = certificates.id_of(issuer.pem)
            directory = self._state.directory("certs", "authorities", id)
            if sealed := read(self._vault.path("ca.key")):
                write_atomically(self._vault.path(self._key_name(id)), sealed)
            self._note(directory, issuer.pem, issuer)
            self.point(Standing(id, (id,)))
        if first.exists() and read(first) in {issuer.pem.encode() for issuer in self.trusted()}:
            for path in (self._state.path / "ca.json", self._vault.path("ca.key"), first):  # the last is what it is known by
                path.unlink(missing_ok=True)
            sync_directory(self._state.path)
        counting = self.standing().trusted
        for directory in self.path.with_suffix("").glob("*"):
            if directory.name not in counting and not (directory / "ca.pem").exists():
                shutil.rmtree(directory)  # its key was sealed and has signed nothing

    def directory(self, id: str) -> Path:
        return self.path.with_suffix("") / id if id else self._state.path

    def _key_name(self, id: str) -> str:
        return f"certs/authorities/{id}/key" if id else "ca.key"

    def _note(self, directory: Path, pem: str, issuer: Issuer) -> None:
        """The record spares who looks at it the parsing of X.509; it comes before the certificate that makes a CA of all this."""
        record = {
            "domain": issuer.domain,
            "networks": sorted(issuer.networks),
            "not_after": issuer.not_after.isoformat(),
            "certificate": digest(pem),
        }
        write_atomically(directory / "ca.json", json.dumps(record, indent=1) + "\n", 0o644)
        write_atomically(directory / "ca.pem", pem, 0o644)

    def _as_noted(self, id: str, pem: str) -> Issuer | None:
        """By its record, None where that is missing, damaged, or of another certificate."""
        try:
            record = from_json(read(self.directory(id) / "ca.json") or b"{}")
            domain, networks, not_after = record["domain"], record["networks"], datetime.fromisoformat(record["not_after"])
            is_whole = isinstance(domain, str | None) and isinstance(networks, list) and all(isinstance(each, str) for each in networks)
            if record["certificate"] == digest(pem) and is_whole and not_after.tzinfo:
                return Issuer(id, pem, domain, frozenset(networks), not_after)
        except (ValueError, TypeError, KeyError):
            pass
        return None

    def _as_certified(self, id: str, pem: str, path: Path) -> Issuer:
        from control.pki import certificates

        try:
            limits = certificates.limits_of(pem)
        except ValueError as error:
            raise PaddockError(f"{path}: is not a CA ({error}): put it back from a backup or from git") from None
        return Issuer(id, pem, limits.domain, frozenset(limits.networks), limits.not_after)


def bundle(issuers: Iterable[Issuer]) -> str:
    """Their certificates in one PEM text, as programs read it that trust several."""
    return "".join(issuer.pem if issuer.pem.endswith("\n") else f"{issuer.pem}\n" for issuer in issuers)

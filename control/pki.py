"""The fleet's certificates: one authority, a server certificate a site, a client certificate a client."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control.leaves import KINDS, Leaf, Leaves, Subject, digest, subjects_of
from control.secrets import Vault
from control.state import FleetState, make_private, read, write_atomically
from inventory.context import Certificate
from inventory.errors import PaddockError
from inventory.schema import Fleet
from roles.client.settings import ClientSettings, Seat


class Authority:
    """What the fleet's CA has issued and is to issue. `now` is always an aware time."""

    def __init__(self, state: FleetState, vault: Vault) -> None:
        self._state = state
        self._vault = vault
        self._leaves = Leaves(state, vault)

    def current(self, fleet: Fleet, now: datetime) -> tuple[str | None, dict[str, Certificate], dict[str, Certificate]]:
        """The CA's certificate, the servers' by site and the clients' by name; nothing that is missing or due, and no client's key.

        Changes nothing. Raises PaddockError where the CA does not fit the inventory, or where a key cannot be unsealed.
        """
        subjects = subjects_of(fleet)
        ca = self._ca(fleet, now) if subjects else self._ca_pem()
        found: dict[str, dict[str, Certificate]] = {kind: {} for kind in KINDS}
        for subject in subjects:
            certificate, _ = self._look(subject, ca, now)
            if certificate:
                found[subject.kind][subject.name] = certificate
        clients = {name: Certificate(certificate.chain) for name, certificate in found["client"].items()}
        return ca, found["server"], clients

    def identities(self, fleet: Fleet, now: datetime) -> dict[str, Certificate]:
        """Certificate and key of the clients that a host of the fleet keeps. Raises PaddockError where a key cannot be unsealed."""
        kept = {seat.client for host in fleet.hosts for seat in _seats(fleet, host)}
        subjects = [each for each in subjects_of(fleet) if each.kind == "client" and each.name in kept] if kept else []
        ca = self._ca(fleet, now) if subjects else None
        looked = ((each.name, self._look(each, ca, now)[0]) for each in subjects)
        return {name: certificate for name, certificate in looked if certificate}

    def due(self, fleet: Fleet, now: datetime) -> list[str]:
        """What `issue` would do, a line each: `server ai.home.example: expires in 12 days`."""
        subjects = subjects_of(fleet)
        ca = self._ca(fleet, now) if subjects else None
        looked = ((subject, self._look(subject, ca, now)[1]) for subject in subjects)
        return [
            *(f"{kind} {name}: no longer in the inventory" for kind, name in self._leaves.left_over(subjects)),
            *(["CA: new"] if subjects and ca is None else []),
            *(f"{subject}: {why}" for subject, why in looked if why),
        ]

    def issue(self, fleet: Fleet, now: datetime) -> list[str]:
        """Issue what is due, move away what left the inventory, and give the lines that `due` gave."""
        lines = self.due(fleet, now)
        subjects = subjects_of(fleet)
        for kind, name in self._leaves.left_over(subjects):
            self._leaves.retire(kind, name)
        due = [subject for subject in subjects if self._look(subject, self._ca_pem(), now)[1]]
        if due:
            ca = self._ca(fleet, now) or self._make_ca(fleet, now)
            ca_key = self._ca_key(ca)
            for subject in due:
                self._issue(subject, ca, ca_key, now)
        return lines

    def held(self) -> list[Leaf]:
        """Every certificate in use, whether or not its time has come."""
        return [leaf for kind, name in self._leaves.names() if (leaf := self._leaves.leaf(kind, name))]

    def revoke(self, client: str) -> None:
        """Take a client's certificate out of use. A client that is still in the inventory gets a new one at the next `issue`."""
        if ("client", client) not in self._leaves.names():
            raise PaddockError(f"client {client}: has no certificate that could be revoked")
        self._leaves.retire("client", client)

    def export(self, client: str, directory: Path | None = None) -> Path:
        """Write `ca.pem`, `cert.pem` and `key.pem`, the key unsealed, for the client to take away. Gives the directory."""
        leaf, certificate, why = self._leaves.pair("client", client)
        ca = self._ca_pem()
        if not certificate or not leaf or ca is None or leaf.ca != digest(ca):
            raise PaddockError(f"client {client}: no certificate to export ({why or 'made by another CA'}): `paddock up` issues one")
        directory = make_private(directory) if directory else self._state.directory("export", client)
        for name, text in (("ca.pem", ca), ("cert.pem", certificate.chain), ("key.pem", certificate.key)):
            if read(directory / name) != text.encode():
                write_atomically(directory / name, text)
        return directory

    # What is there

    def _look(self, subject: Subject, ca: str | None, now: datetime) -> tuple[Certificate | None, str]:
        """The subject's certificate, or None and why it needs one."""
        leaf, certificate, why = self._leaves.pair(subject.kind, subject.name)
        if leaf and not why:
            if ca is None or leaf.ca != digest(ca):
                why = "made by another CA"
            elif (leaf.names, leaf.addresses) != (subject.names, subject.addresses):
                why = "its names or addresses changed"
            else:
                why = leaf.why_not(now)
        return (None, why) if why else (certificate, "")

    # The authority

    def _ca_pem(self) -> str | None:
        pem = read(self._state.path / "ca.pem")
        return pem.decode(errors="replace") if pem is not None else None

    def _ca(self, fleet: Fleet, now: datetime) -> str | None:
        """The CA's certificate, None where there is none yet. Raises PaddockError where it was made for something else, or has expired."""
        pem = self._ca_pem()
        if pem is None:
            return None
        domain, networks, not_after = self._limits(pem)
        again = (
            f"or move ca.pem, ca.json and ca.key.age out of {self._state.path}: "
            "the next `paddock up` then makes a new CA, and every client needs its certificate anew"
        )
        if (domain, networks) != (fleet.domain, frozenset(fleet.networks)):
            made_for, says = _limits_in_words(domain, networks), _limits_in_words(fleet.domain, fleet.networks)
            raise PaddockError(
                f"{self._state.path / 'ca.pem'}: the CA of fleet {fleet.name} was made for {made_for}, "
                f"the inventory says {says}: put `domain` and `networks` back, {again}"
            )
        if not_after <= now:
            raise PaddockError(
                f"{self._state.path / 'ca.pem'}: the CA expired on {not_after:%Y-%m-%d}: look at this machine's clock, {again}"
            )
        return pem

    def _limits(self, pem: str) -> tuple[str, frozenset[str], datetime]:
        """The domain and the networks of the CA, and its last moment: from its record, or from the certificate itself."""
        try:
            record = json.loads(read(self._state.path / "ca.json") or b"{}")
            if record["certificate"] == digest(pem):
                return record["domain"], frozenset(record["networks"]), datetime.fromisoformat(record["not_after"])
        except (ValueError, TypeError, KeyError):
            pass
        from control import certificates

        try:
            limits = certificates.limits_of(pem)
        except ValueError as error:
            raise PaddockError(
                f"{self._state.path / 'ca.pem'}: is no CA of Paddock's ({error}): put it back from a backup or from git"
            ) from None
        return limits.domain, frozenset(limits.networks), limits.not_after

    def _make_ca(self, fleet: Fleet, now: datetime) -> str:
        """A new CA. Its key is sealed first; one that lies there already, of a run that died, is taken up and never overwritten."""
        from control import certificates

        if not self._vault.has("ca.key"):
            self._vault.seal("ca.key", certificates.new_key().encode())
        key = self._vault.unseal("ca.key").decode()
        pem = certificates.make_ca(key, fleet.name, fleet.domain, fleet.networks, now)
        directory = self._state.directory()
        try:
            write_atomically(directory / "ca.pem", pem, 0o644, exclusive=True)
        except FileExistsError:
            raise PaddockError(f"{directory / 'ca.pem'}: another run has just made it: start again") from None
        record = {
            "domain": fleet.domain,
            "networks": fleet.networks,
            "not_after": certificates.end_of(pem).isoformat(),
            "certificate": digest(pem),
        }
        write_atomically(directory / "ca.json", json.dumps(record, indent=1) + "\n", 0o644)
        return pem

    def _ca_key(self, ca: str) -> str:
        from control import certificates

        path = self._vault.path("ca.key")
        advice = "put it back from a backup or from git, nothing can be issued without it"
        if not self._vault.has("ca.key"):
            raise PaddockError(f"{path}: the CA's key is missing: {advice}")
        key = self._vault.unseal("ca.key").decode(errors="replace")
        with suppress(ValueError):
            if certificates.belongs(ca, key):
                return key
        raise PaddockError(f"{path}: is not the key of ca.pem: {advice}")

    # Issuing

    def _issue(self, subject: Subject, ca: str, ca_key: str, now: datetime) -> None:
        from control import certificates

        begin = now.replace(microsecond=0) - certificates.BACKDATED
        # The last second counts: RFC 5280, 4.1.2.5
        end = begin + timedelta(days=subject.days) - timedelta(seconds=1)
        key = certificates.new_key()
        pem = certificates.sign(ca, ca_key, subject.kind, key, subject.name, subject.names, subject.addresses, begin, end)
        assert certificates.belongs(pem, key)
        leaf = Leaf(
            kind=subject.kind,
            name=subject.name,
            serial=certificates.serial_of(pem),
            names=subject.names,
            addresses=subject.addresses,
            not_before=begin.astimezone(UTC),
            not_after=certificates.end_of(pem),
            ca=digest(ca),
            certificate=digest(pem),
            key=digest(key),
        )
        self._leaves.keep(leaf, pem, key)


def _seats(fleet: Fleet, host: str) -> tuple[Seat, ...]:
    settings = fleet.role(host, "client", ClientSettings)
    return tuple(settings.accounts.values()) if settings else ()


def _limits_in_words(domain: str, networks: tuple[str, ...] | frozenset[str]) -> str:
    return " and ".join([domain, ", ".join(sorted(networks)) or "no networks"])

"""The fleet's certificates: an authority, a server certificate a site, a client certificate a client, and one a host that calls another."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control.pki.authorities import Authorities, Issuer, bundle
from control.pki.clock import require_clock
from control.pki.leaves import KINDS, Leaf, Leaves, Record, Subject, digest, earlier_of, sites_only_on, subjects_of
from control.state.fleet import FleetState, make_private, read, write_atomically
from control.state.lock import admission_lock
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Certificate

CA_ADVICE = timedelta(days=365)
"""So long before its CA ends a fleet is told to change to another: clients that nobody sees for half a year still hear of it in time."""


class Authority:
    """What the fleet's CAs have issued and are to issue. `now` is always an aware time, and not before that of what was issued last, unless
    `clock_is_right`.
    """

    def __init__(self, state: FleetState, vault: Vault, *, clock_is_right: bool = False) -> None:
        self._state = state
        self._vault = vault
        self._clock_is_right = clock_is_right
        self.leaves = Leaves(state, vault)
        self.cas = Authorities(state, vault)

    def current(self, fleet: Fleet, now: datetime) -> tuple[str | None, dict[str, Certificate], dict[str, Certificate]]:
        """The CAs that are trusted, the servers' certificates by site and the clients' by name; nothing that is missing or due, no revoked
        client and no client's key.

        Changes nothing. Raises PaddockError where the CA does not fit the inventory, or where a key cannot be unsealed.
        """
        subjects = subjects_of(fleet)
        ca = self._ca(fleet, now) if subjects else None
        found: dict[str, dict[str, Certificate]] = {kind: {} for kind in KINDS}
        for subject in subjects:
            certificate, _ = self._look(subject, ca, now)
            if certificate:
                found[subject.kind][subject.name] = certificate
        clients = {name: Certificate(certificate.chain) for name, certificate in found["client"].items()}
        return self.bundle(), found["server"], clients

    def bundle(self) -> str | None:
        """The certificates of all CAs that are trusted, in one text; None where there is none yet."""
        return bundle(self.cas.trusted()) or None

    def host_bundle(self) -> str | None:
        """The same of those that sign for hosts: the one that does now, the next one, and those that have made a certificate in use."""
        standing = self.cas.standing()
        made = {leaf.ca for kind, name in self.leaves.names() if kind == "host" for leaf in self.leaves.record(kind, name).leaves}
        signing = (each for each in self.cas.trusted() if each.id in (standing.signing, standing.next) or each.digest in made)
        return bundle(signing) or None

    def earlier(self, fleet: Fleet, now: datetime) -> dict[str, tuple[str, ...]]:
        """By client the certificates before the one in use that are still let in; one that is due counts, a newer one is about to be."""
        return self._earlier("client", fleet, now)

    def earlier_hosts(self, fleet: Fleet, now: datetime) -> dict[str, tuple[str, ...]]:
        """The same by host: what another has until it gets its new one."""
        return self._earlier("host", fleet, now)

    def _earlier(self, kind: str, fleet: Fleet, now: datetime) -> dict[str, tuple[str, ...]]:
        subjects = [each for each in subjects_of(fleet) if each.kind == kind]
        ca, trusted = (self._ca(fleet, now), self._trusted()) if subjects else (None, frozenset[str]())
        found = {}
        for subject in subjects:
            is_due = bool(self._look(subject, ca, now)[1])
            leaves = earlier_of(self.leaves.record(kind, subject.name), now, trusted, with_current=is_due)
            if chains := tuple(chain for leaf in leaves if (chain := self.leaves.chain(leaf))):
                found[subject.name] = chains
        return found

    def identities(self, fleet: Fleet, now: datetime) -> dict[str, Certificate]:
        """Certificate and key of the clients that a host of the fleet keeps. Raises PaddockError where a key cannot be unsealed."""
        kept = {client for host in fleet.hosts for client in seats(fleet, host).values()}
        subjects = [each for each in subjects_of(fleet) if each.kind == "client" and each.name in kept] if kept else []
        ca = self._ca(fleet, now) if subjects else None
        looked = ((each.name, self._look(each, ca, now)[0]) for each in subjects)
        return {name: certificate for name, certificate in looked if certificate}

    def hosts(self, fleet: Fleet, now: datetime) -> dict[str, Certificate]:
        """Certificate and key of the hosts that show one to each other; none that is missing or due. Raises PaddockError where a key cannot
        be unsealed."""
        subjects = [each for each in subjects_of(fleet) if each.kind == "host"]
        ca = self._ca(fleet, now) if subjects else None
        looked = ((each.name, self._look(each, ca, now)[0]) for each in subjects)
        return {name: certificate for name, certificate in looked if certificate}

    def revoked(self, fleet: Fleet) -> dict[str, datetime]:
        """The clients of the inventory that are thrown out, and since when."""
        found = ((name, self.leaves.record("client", name).revoked) for name in fleet.clients)
        return {name: revoked.on for name, revoked in found if revoked}

    def due(self, fleet: Fleet, now: datetime, without: Collection[str] = (), *, kinds: Collection[str] = KINDS) -> list[str]:
        """What `issue` would do, a line each: `server ai.home.example: expires in 12 days`. Hosts that it goes `without` get nothing."""
        subjects = subjects_of(fleet)
        ca = self._ca(fleet, now) if subjects else None
        wanted = self._admitted(subjects, sites_only_on(without, fleet), kinds)
        looked = ((subject, self._look(subject, ca, now)[1]) for subject in wanted)
        return [
            *(f"{kind} {name}: no longer in the inventory" for kind, name in self.leaves.left_over(subjects) if kind in kinds),
            *(["CA: new"] if wanted and ca is None else []),
            *(f"{subject}: {why}" for subject, why in looked if why),
        ]

    def issue(self, fleet: Fleet, now: datetime, without: Collection[str] = (), *, kinds: Collection[str] = KINDS) -> list[str]:
        """Issue what is due, move away what left the inventory, and give the lines that `due` gave."""
        if self.due(fleet, now, without, kinds=kinds):
            self._vault.require_recipients()  # before the lock is held: it may ask
        elif not self.leaves.names():
            return []  # and nothing is made on disk
        with admission_lock(self._state):
            lines = self.due(fleet, now, without, kinds=kinds)
            if lines:
                self.require_clock(now)
            subjects = subjects_of(fleet)
            for kind, name in self.leaves.left_over(subjects):
                if kind in kinds:
                    self.leaves.retire(kind, name)
            for kind, name in self.leaves.names():
                self.leaves.sweep(kind, name)  # what a run that died has left
            ca = self._ca(fleet, now) if subjects else None
            wanted = self._admitted(subjects, sites_only_on(without, fleet), kinds)
            self._issue_all([each for each in wanted if self._look(each, ca, now)[1]], fleet, now)
            return lines

    def renew(self, fleet: Fleet, names: Collection[str], now: datetime) -> list[str]:
        """New certificates for these sites, clients and hosts, whatever their time. Raises PaddockError for one that is revoked, or
        unknown."""
        with admission_lock(self._state):
            revoked = self.revoked(fleet)
            asked = [each for each in subjects_of(fleet) if each.name in names]
            wanted = [each for each in asked if each.kind != "client" or each.name not in revoked]
            for name in names:
                if name not in {each.name for each in asked}:
                    raise PaddockError(f"{name}: is neither a client nor a site of fleet {fleet.name}, nor a host that has a certificate")
                if name not in {each.name for each in wanted}:
                    raise PaddockError(f"client {name}: is revoked: `paddock certs issue {name}` admits it again, with a new certificate")
            self._issue_all(wanted, fleet, now)
        return [f"{each}: renewed" for each in wanted]

    def admit(self, fleet: Fleet, client: str, now: datetime) -> str:
        """Have a client of the inventory let in, also one that was revoked. Gives what was done; nothing where it was let in already."""
        (subject,) = (each for each in subjects_of(fleet) if (each.kind, each.name) == ("client", client))
        with admission_lock(self._state):
            _, why = self._look(subject, self._ca(fleet, now), now)
            if why:
                self._issue_all([subject], fleet, now)
        return f"{subject}: {why}" if why else ""

    def require_signing(self, fleet: Fleet, now: datetime) -> None:
        """Raises PaddockError where the CA that there is could not sign: it does not fit, it has expired, its key is not there; where the
        clock is wrong; and where nothing can be sealed.
        """
        self._ca(fleet, now)
        if issuer := self.cas.signing():
            self.cas.key(issuer)
        self.require_clock(now)
        self._vault.require_recipients()

    def require_clock(self, now: datetime) -> None:
        """Raises PaddockError where this machine's clock must be wrong."""
        if not self._clock_is_right:
            require_clock(now, self.cas.signing(), (record for _, record in self.records()))

    def over(self, fleet: Fleet, now: datetime) -> list[Leaf]:
        """The earlier certificates of clients whose time is over. They are kept until `forget`, for the clock may be wrong."""
        records = (self.leaves.record("client", name) for name in fleet.clients)
        return [leaf for record in records for leaf in record.earlier if leaf.not_after <= now]

    def forget(self, leaves: Iterable[Leaf]) -> None:
        """Take earlier certificates out of the books."""
        gone: dict[str, set[str]] = {}
        for leaf in leaves:
            gone.setdefault(leaf.name, set()).add(leaf.serial)
        with admission_lock(self._state):
            for name, serials in gone.items():
                self.leaves.drop_earlier("client", name, serials)

    def put_by(self, now: datetime) -> None:
        """Have hosts hear no more of revoked certificates that are long past their end."""
        with admission_lock(self._state):
            self.leaves.put_by("client", now)

    def revoke(self, client: str, now: datetime) -> bool:
        """Throw a client out, until `admit` admits it again. False where it had been thrown out before.

        Raises PaddockError where it has no certificate.
        """
        with admission_lock(self._state):
            record = self.leaves.record("client", client)
            if not record.leaves and not record.revoked:
                raise PaddockError(f"client {client}: has no certificate that could be revoked")
            if record.revoked:
                self.leaves.sweep("client", client)
                return False
            self.leaves.revoke("client", client, now)
            return True

    def revoke_earlier(self, client: str) -> tuple[Leaf, ...]:
        """Throw out the certificates that a client held before the one in use. Gives them."""
        with admission_lock(self._state):
            earlier = self.leaves.record("client", client).earlier
            if earlier:
                self.forget(earlier)
            return earlier

    def records(self) -> list[tuple[tuple[str, str], Record]]:
        """All that is noted, by kind and name."""
        return [(each, self.leaves.record(*each)) for each in self.leaves.names()]

    def notices(self, fleet: Fleet, now: datetime) -> list[str]:
        """What the operator should know though nothing is to be issued: who is thrown out, and `advice`."""
        revoked = self.revoked(fleet).items()
        lines = [f"client {name}: revoked on {on:%Y-%m-%d}, `paddock certs issue {name}` admits it again" for name, on in revoked]
        return [*lines, advice] if (advice := self.advice(now)) else lines

    def advice(self, now: datetime) -> str:
        """What comes next of a change to another CA, or that one is to begin, for this one ends; empty while there is nothing to do."""
        standing, signing = self.cas.standing(), self.cas.signing()
        if standing.next:
            return f"CA {standing.next} is trusted beside the signing CA: `paddock certs roll-over switch` makes it sign"
        if len(standing.trusted) > 1:
            return "more than one CA is trusted: `paddock certs roll-over finish` leaves the one that signs"
        if signing and signing.not_after - now < CA_ADVICE:
            days = max(0, (signing.not_after - now).days)
            return f"the CA expires in {days} days, and all certificates with it: `paddock certs roll-over begin` makes the next one"
        return ""

    def export(self, client: str, directory: Path | None = None) -> Path:
        """Write `ca.pem`, `cert.pem` and `key.pem`, the key unsealed, for the client to take away. Gives the directory."""
        certificate, ca = self.exportable(client)
        directory = make_private(directory) if directory else self._state.directory("export", client)
        for name, text in (("ca.pem", ca), ("cert.pem", certificate.chain), ("key.pem", certificate.key)):
            if read(directory / name) != text.encode():
                write_atomically(directory / name, text)
        return directory

    def exportable(self, client: str) -> tuple[Certificate, str]:
        """A client's certificate and key, and the CAs that it is to trust. Raises PaddockError where it has none."""
        leaf, certificate, why = self.leaves.pair("client", client)
        if why.startswith("revoked"):
            raise PaddockError(f"client {client}: {why}: `paddock certs issue {client}` admits it again, with a new certificate")
        ca = self.bundle()
        if not certificate or not leaf or ca is None or leaf.ca not in self._trusted():
            raise PaddockError(f"client {client}: no certificate to export ({why or 'made by another CA'}): `paddock up` issues one")
        return certificate, ca

    # What is there

    def _look(self, subject: Subject, ca: Issuer | None, now: datetime) -> tuple[Certificate | None, str]:
        """The subject's certificate, or None and why it needs one."""
        leaf, certificate, why = self.leaves.pair(subject.kind, subject.name)
        if leaf and not why:
            if ca is None or leaf.ca != ca.digest:
                why = "made by another CA"
            elif (leaf.names, leaf.addresses) != (subject.names, ()):
                why = "its names changed"
            elif subject.kind == "host" and not leaf.marks:
                why = "has no mark: an older Paddock made it"
            else:
                why = leaf.why_not(now)
        return (None, why) if why else (certificate, "")

    def _admitted(self, subjects: list[Subject], left_out: Collection[str], kinds: Collection[str]) -> list[Subject]:
        sites = (each for each in subjects if each.kind in kinds and (each.kind != "server" or each.name not in left_out))
        return [each for each in sites if not self.leaves.record(each.kind, each.name).revoked]

    def _trusted(self) -> frozenset[str]:
        return frozenset(issuer.digest for issuer in self.cas.trusted())

    def _ca(self, fleet: Fleet, now: datetime) -> Issuer | None:
        """The CA that signs, None where there is none yet. Raises PaddockError where it was made for something else, or has expired."""
        ca = self.cas.signing()
        if ca is None:
            return None
        where = self.cas.directory(ca.id) / "ca.pem"
        change = "`paddock certs roll-over begin` and `switch`" if not self.cas.standing().next else "`paddock certs roll-over switch`"
        again = f"or change to a new CA ({change}): every client then needs its certificate anew"
        if not ca.fits(fleet):
            made_for, says = _limits_in_words(str(ca.domain), ca.networks), _limits_in_words(fleet.domain, fleet.networks)
            raise PaddockError(
                f"{where}: the CA of fleet {fleet.name} was made for {made_for}, "
                f"the inventory says {says}: put `domain` and `networks` back, {again}"
            )
        if ca.not_after <= now:
            raise PaddockError(f"{where}: the CA expired on {ca.not_after:%Y-%m-%d}: look at this machine's clock, {again}")
        return ca

    # Issuing

    def _issue_all(self, subjects: list[Subject], fleet: Fleet, now: datetime) -> None:
        if not subjects:
            return
        self._ca(fleet, now)  # whether it fits, before anything is moved
        self.require_clock(now)
        self.cas.take_over()
        ca = self.cas.signing() or self._first(fleet, now)
        ca_key = self.cas.key(ca)
        for subject in subjects:
            self._issue(subject, ca, ca_key, now)

    def _first(self, fleet: Fleet, now: datetime) -> Issuer:
        """The fleet's first CA of its own; others may be trusted already."""
        standing, made = self.cas.standing(), self.cas.make(fleet, now)
        self.cas.point(replace(standing, signing=made.id, trusted=(*standing.trusted, made.id)))
        return made

    def _issue(self, subject: Subject, ca: Issuer, ca_key: str, now: datetime) -> None:
        from control.pki import certificates

        begin = now.replace(microsecond=0) - certificates.BACKDATED
        # The last second counts: RFC 5280, 4.1.2.5
        end = begin + timedelta(days=subject.days) - timedelta(seconds=1)
        key = certificates.new_key()
        serial = certificates.new_serial()
        marks = subject.marks(serial, self.leaves.record(subject.kind, subject.name).current)
        pem = certificates.sign(ca.pem, ca_key, subject.kind, key, subject.common_name, subject.names, (), begin, end, serial, marks)
        assert certificates.belongs(pem, key)
        leaf = Leaf(
            kind=subject.kind,
            name=subject.name,
            serial=serial,
            names=subject.names,
            addresses=(),
            not_before=begin.astimezone(UTC),
            not_after=certificates.life_of(pem)[1],
            ca=ca.digest,
            certificate=digest(pem),
            key=digest(key),
            marks=marks,
        )
        self.leaves.keep(leaf, pem, key, now)


def seats(fleet: Fleet, host: str) -> dict[str, str]:
    """The accounts of a host that keep a client's certificate and key: account → client."""
    return dict(each for settings in fleet.hosts[host].carried.values() for each in settings.identities())


def _limits_in_words(domain: str, networks: tuple[str, ...] | frozenset[str]) -> str:
    return " and ".join([domain, ", ".join(sorted(networks)) or "no networks"])

"""A CA that was made elsewhere, with openssl for instance, and the client certificates that it has issued."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from control.pki.authorities import Issuer, Standing
from control.pki.authority import Authority
from control.pki.leaves import Leaf, digest
from control.state.fleet import read
from inventory.errors import PaddockError
from inventory.fleet import Fleet

BEGIN = "-----BEGIN CERTIFICATE-----"

NOT_LIMITED = "has no name constraints: everything that trusts it trusts it for every name. Protect its key, or change the CA"


def ca_of(fleet: Fleet, pem: str, key: str | None, now: datetime, where: Path) -> Issuer:
    """The CA, looked at and not kept. Raises PaddockError for what is no CA, for a foreign key, and where it cannot sign here."""
    from control.pki import certificates

    if (many := pem.count(BEGIN)) > 1:
        raise PaddockError(f"{where}: holds {many} certificates: give that of the CA alone, which has signed itself")
    pem = _alone(pem, "CA certificate", where)
    try:
        limits = certificates.limits_of(pem)
    except ValueError as error:
        raise PaddockError(f"{where}: is not a CA certificate: {error}") from None
    if why := certificates.unfit_as_ca(pem):
        raise PaddockError(f"{where}: certificates of this CA would be refused: {why}")
    if not certificates.is_issued_by(pem, pem):
        raise PaddockError(f"{where}: is not self-signed: give the root CA, verifiers need the complete chain")
    begin = certificates.life_of(pem)[0]
    if not begin <= now < limits.not_after:
        raise PaddockError(f"{where}: this CA is valid from {begin:%Y-%m-%d} to {limits.not_after:%Y-%m-%d}")
    issuer = Issuer(certificates.id_of(pem), pem, limits.domain, frozenset(limits.networks), limits.not_after)
    if key is not None and not certificates.belongs(pem, key):
        raise PaddockError(f"{where}: the key is not this CA's")
    if key is not None and not issuer.fits(fleet):
        raise PaddockError(
            f"{where}: this CA is limited to other names than `domain` and `networks` of the inventory: it cannot sign for them"
        )
    return issuer


def trust(authority: Authority, issuer: Issuer, key: str | None) -> None:
    """Trust a CA from now on; with its key, have it sign. Raises PaddockError where another certificate of it is known."""
    cas = authority.cas
    cas.take_over()
    standing, id = cas.standing(), issuer.id
    path = cas.directory(id) / "ca.pem"
    if (there := read(path)) is not None and there.decode() != issuer.pem:
        raise PaddockError(f"another certificate of the same CA is known already: {path}")
    cas.add(issuer.pem, key)
    trusted = standing.trusted if id in standing.trusted else (*standing.trusted, id)
    signing, then = (standing.signing, standing.next) if key is None else (id, None if standing.next == id else standing.next)
    cas.point(Standing(signing, trusted, then))


def import_client(authority: Authority, issuer: Issuer, client: str, pem: str, now: datetime, where: Path) -> Leaf:
    """Let in the certificate that a client holds already, until it expires; beside it the client gets one of the fleet's own.

    Raises PaddockError where the CA has not signed it, where its time is over, or where it is not for clients.
    """
    from control.pki import certificates

    leaf = checked_client(authority, issuer, client, pem, now, where)
    authority.leaves.keep_earlier(leaf, certificates.alone(pem))
    return leaf


def checked_client(authority: Authority, issuer: Issuer, client: str, pem: str, now: datetime, where: Path) -> Leaf:
    """What `import_client` would let in; raises what it raises, and keeps nothing."""
    if authority.leaves.record("client", client).revoked:
        raise PaddockError(f"client {client}: is revoked: `paddock certs issue {client}` admits it again")
    leaf = leaf_of(issuer, client, pem, now, where)
    for (kind, name), record in authority.records():
        if (kind, name) != ("client", client) and leaf.certificate in {each.certificate for each in record.leaves}:
            raise PaddockError(f"{where}: is the certificate of client {name}: a certificate belongs to one client")
        if record.revoked and leaf.serial in record.revoked.serials:
            raise PaddockError(f"{where}: was revoked with client {name}: `paddock certs issue {client}` issues a new one")
    return leaf


def leaf_of(issuer: Issuer, client: str, pem: str, now: datetime, where: Path) -> Leaf:
    """A certificate that was made elsewhere, as it is noted."""
    from control.pki import certificates

    pem = _alone(pem, "certificate", where)
    if not certificates.is_issued_by(pem, issuer.pem):
        raise PaddockError(f"{where}: was not issued by the CA {certificates.common_name_of(issuer.pem)}")
    if certificates.is_ca(pem):
        raise PaddockError(f"{where}: is a CA certificate, not a client's")
    if not certificates.is_for_clients(pem):
        raise PaddockError(f"{where}: is not for clients: its extended key usage has no clientAuth")
    begin, end = certificates.life_of(pem)
    if end <= now:
        raise PaddockError(f"{where}: expired on {end:%Y-%m-%d}: the client needs a new one, `paddock certs issue {client}`")
    serial = certificates.serial_of(pem)
    return Leaf("client", client, serial, (), (), begin, end, issuer.digest, digest(pem), key="")


def files_of(named: Mapping[str, Path]) -> dict[str, str]:
    """The text of each file. Raises PaddockError for one that is not there or is no text."""
    texts = {}
    for name, path in named.items():
        data = read(path)
        if data is None:
            raise PaddockError(f"{path}: there is no such file")
        try:
            texts[name] = data.decode()
        except UnicodeDecodeError:
            raise PaddockError(f"{path}: is not PEM: `openssl x509 -inform DER -in {path}` converts it") from None
    return texts


def _alone(text: str, what: str, where: Path) -> str:
    from control.pki import certificates

    try:
        return certificates.alone(text)
    except ValueError:
        damaged = "its content cannot be read" if BEGIN in text else f"there is no line {BEGIN}"
        raise PaddockError(f"{where}: is not a {what} in PEM: {damaged}") from None

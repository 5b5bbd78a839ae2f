"""Keys and X.509 certificates, made and signed. Text in, text out; no files, no clock.

A CA is limited by name constraints (RFC 5280, 4.2.1.10) to one domain and to networks, and by its extended key usage to servers and clients
of TLS, so that who trusts it trusts it for nothing else.
A CA that was made elsewhere may have an RSA key, and no limits; the keys of leaves are always P-256.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATED = timedelta(minutes=5)
"""A certificate begins before it is made, for hosts whose clocks are behind."""

CA_LIFE = timedelta(days=3652)

PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
USAGES = {**{kind: (purpose,) for kind, purpose in PURPOSES.items()}, "host": tuple(PURPOSES.values())}
"""What a leaf of each kind is for: of two hosts either may be the one that calls."""

EVERYWHERE = ("0.0.0.0/0", "::/0")

COMMON_NAME_LIMIT = 64  # RFC 5280, appendix A.1: ub-common-name

CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Limits:
    """What a CA may sign for, and until when. `domain` is None where it has no name constraints."""

    domain: str | None
    networks: tuple[str, ...]
    not_after: datetime


def new_key() -> str:
    """A P-256 private key, PEM in PKCS#8."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*_PLAIN_PEM).decode()


def make_ca(key: str, fleet: str, domain: str, networks: tuple[str, ...], now: datetime) -> str:
    """A self-signed CA of path length 0 for ten years. Where no network is given, it may sign for no IP address at all."""
    private = _own(key)
    ski = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
    # Browsers list authorities by name: one that was made anew must not look like the old one.
    name = _name({NameOID.ORGANIZATION_NAME: fleet, NameOID.COMMON_NAME: f"Paddock CA {ski.digest.hex()[:8]}"})
    # A kind of name that is not among the constraints is not constrained.
    names = [x509.DNSName(domain), x509.RFC822Name(domain), x509.UniformResourceIdentifier(domain)]
    permitted = [*names, *(x509.IPAddress(ip_network(network)) for network in networks)]
    excluded = None if networks else [x509.IPAddress(ip_network(network)) for network in EVERYWHERE]
    begin = now - BACKDATED
    builder = (
        _certificate(name, name, private.public_key(), begin, begin + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
        .add_extension(x509.ExtendedKeyUsage(PURPOSES.values()), critical=False)
        .add_extension(ski, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
    )
    return _pem(builder.sign(private, hashes.SHA256()))


def sign(
    ca: str,
    ca_key: str,
    kind: str,
    key: str,
    common_name: str,
    names: tuple[str, ...],
    addresses: tuple[str, ...],
    begin: datetime,
    end: datetime,
    serial: str = "",
    marks: tuple[str, ...] = (),
) -> str:
    """A leaf for `key`: `kind` is `server`, `client` or `host`, `names` and `addresses` are its SAN, which is left out where both are
    empty, `serial` is one of `new_serial`, and `marks` are further common names."""
    authority, private = x509.load_pem_x509_certificate(ca.encode()), _own(key)
    alternatives = [*(x509.DNSName(name) for name in names), *(x509.IPAddress(ip_address(address)) for address in addresses)]
    # A longer name does not fit here; verifiers look at the SAN alone where there is one, but a subject there must be.
    shown = (common_name if len(common_name) <= COMMON_NAME_LIMIT else kind, *marks)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in shown])
    builder = (
        _certificate(subject, authority.subject, private.public_key(), begin, min(end, authority.not_valid_after_utc), serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES[kind]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(_identifier(authority)), critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _pem(builder.sign(_private(ca_key), hashes.SHA256()))


def belongs(certificate: str, key: str) -> bool:
    """Whether the private key is the certificate's. Raises ValueError where one of them cannot be read."""
    found = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return bool(found == _private(key).public_key())


def limits_of(ca: str) -> Limits:
    """What a CA is limited to. Raises ValueError where this is no certificate of a CA."""
    certificate = x509.load_pem_x509_certificate(ca.encode())
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError("it has no basic constraints for a CA") from None
    if not basic.ca:
        raise ValueError("its basic constraints say CA:FALSE")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return Limits(None, (), certificate.not_valid_after_utc)
    permitted = constraints.permitted_subtrees or []
    domains = [each.value for each in permitted if isinstance(each, x509.DNSName)]
    networks = tuple(str(each.value) for each in permitted if isinstance(each, x509.IPAddress))
    return Limits(" ".join(domains), networks, certificate.not_valid_after_utc)


def is_issued_by(certificate: str, ca: str) -> bool:
    """Whether the CA's key has signed it. Raises ValueError where one of them cannot be read."""
    leaf, authority = (x509.load_pem_x509_certificate(each.encode()) for each in (certificate, ca))
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_for_clients(certificate: str) -> bool:
    """Whether a server takes it from a caller: it says so, or says nothing of what it is for."""
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def unfit_as_ca(ca: str) -> str:
    """Why verifiers would refuse what a CA has signed; empty where they would not."""
    certificate = x509.load_pem_x509_certificate(ca.encode())
    extensions = {type(each.value): each.value for each in certificate.extensions}
    usage, purposes = extensions.get(x509.KeyUsage), extensions.get(x509.ExtendedKeyUsage)
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        return "its key usage has no keyCertSign"
    if isinstance(purposes, x509.ExtendedKeyUsage) and not (
        set(PURPOSES.values()) <= set(purposes) or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes
    ):
        return "its extended key usage is not for servers and clients both"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        return f"its RSA key has {key.key_size} bits, and 2048 are the least that is taken"
    return ""


def is_ca(certificate: str) -> bool:
    try:
        limits_of(certificate)
    except ValueError:
        return False
    return True


def alone(certificate: str) -> str:
    """The first certificate of a text, without what stands around it. Raises ValueError where there is none."""
    return _pem(x509.load_pem_x509_certificate(certificate.encode()))


def decrypted(key: str, password: str | None) -> str:
    """A CA's private key, RSA or elliptic, as PEM in PKCS#8. Raises TypeError where the password is missing, ValueError where it is wrong,
    or where this is no such key.
    """
    return _private(key, password).private_bytes(*_PLAIN_PEM).decode()


def id_of(ca: str) -> str:
    """The first eight digits of its key identifier."""
    return _identifier(x509.load_pem_x509_certificate(ca.encode())).digest.hex()[:8].ljust(8, "0")


def common_name_of(certificate: str) -> str:
    subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else subject.rfc4514_string()


def new_serial() -> str:
    return _serial(secrets.randbits(128) or 1)


def serial_of(certificate: str) -> str:
    return _serial(x509.load_pem_x509_certificate(certificate.encode()).serial_number)


def _serial(number: int) -> str:
    return f"{number:032x}"


def life_of(certificate: str) -> tuple[datetime, datetime]:
    """Its first moment and its last."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    return loaded.not_valid_before_utc, loaded.not_valid_after_utc


_PLAIN_PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _identifier(authority: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """As the CA gives it itself; of one that does not, as RFC 5280, 4.2.1.2, makes it out of the key."""
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(authority.public_key())


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime, serial: str = ""
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=int(serial or new_serial(), 16),
        not_valid_before=begin.astimezone(UTC),
        not_valid_after=end.astimezone(UTC),
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(parts: dict[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])


def _private(key: str, password: str | None = None) -> CaKey:
    loaded = serialization.load_pem_private_key(key.encode(), password.encode() if password is not None else None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("it is neither an RSA nor an elliptic curve key")
    return loaded


def _own(key: str) -> ec.EllipticCurvePrivateKey:
    loaded = _private(key)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError("it is not an elliptic-curve key")
    return loaded


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

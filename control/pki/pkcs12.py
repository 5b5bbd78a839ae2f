"""A certificate, its key and the CAs in one sealed file, as browsers and phones import it."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from control.pki.authority import Authority
from control.state.fleet import make_private, write_atomically

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without what is taken for something else when it is read out: i, l, o, 0, 1."""

GROUPS, GROUP = 7, 4
ROUNDS = 100_000
"""Of the key derivation. What is checked first of a password, the MAC, has few rounds in any case: a password must not be guessable."""


def write_pkcs12(authority: Authority, client: str, directory: Path, *, legacy: bool = False) -> tuple[Path, str]:
    """Writes NAME.p12, and beside it the CAs as ca.pem. Gives its path, and the password, which is kept nowhere."""
    certificate, cas = authority.exportable(client)
    password, path = new_password(), make_private(directory) / f"{client}.p12"
    write_atomically(path, pkcs12_of(client, certificate.chain, certificate.key, cas, password, legacy=legacy))
    write_atomically(directory / "ca.pem", cas)
    return path, password


def new_password() -> str:
    """`k3vq-…`: 28 random letters and digits, which are 138 bits."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def pkcs12_of(name: str, certificate: str, key: str, cas: str, password: str, *, legacy: bool = False) -> bytes:
    """In AES-256; `legacy` is 3DES and SHA-1, for what knows nothing newer: macOS up to 12, Windows Server 2016, Android up to 12."""
    builder = PrivateFormat.PKCS12.encryption_builder()
    if legacy:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())
    else:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).kdf_rounds(ROUNDS).hmac_hash(hashes.SHA256())
    private = serialization.load_pem_private_key(key.encode(), password=None)
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        private,  # type: ignore[arg-type]
        x509.load_pem_x509_certificate(certificate.encode()),
        x509.load_pem_x509_certificates(cas.encode()),
        builder.build(password.encode()),
    )

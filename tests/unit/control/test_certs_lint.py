"""What linters and strict verifiers say of every kind of certificate, and what each of them says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pkilint
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from control.pki import certificates, roll_over
from control.pki.authority import Authority
from inventory.fleet import Fleet

CERTIFICATES = ("CA", "server", "client", "next CA", "server of the next CA", "client of the next CA")

assert pkilint  # else its command would fail on any certificate, and that is what a test below wants to see


@pytest.fixture
def issued(authority: Authority, fleet: Fleet, now: datetime) -> dict[str, str]:
    """One certificate of each kind, before a roll-over and after."""
    authority.issue(fleet, now)
    first, servers, clients = authority.current(fleet, now)
    roll_over.begin(authority, fleet, now)
    roll_over.switch(authority, now)
    authority.issue(fleet, now)
    roll_over.finish(authority)
    second, new_servers, new_clients = authority.current(fleet, now)
    old = (first or "", servers["ai.home.example"].chain, clients["laptop"].chain)
    return dict(zip(CERTIFICATES, (*old, second or "", new_servers["ai.home.example"].chain, new_clients["laptop"].chain), strict=True))


@pytest.mark.parametrize("which", CERTIFICATES)
def test_pkilint_finds_nothing(issued: dict[str, str], which: str, tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    path.write_text(issued[which])
    lint = [sys.executable, "-m", "pkilint.bin.lint_pkix_cert", "lint", "--format", "JSON", "--severity", "NOTICE", str(path)]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["results"] == []


def test_pkilint_would_find_something(issued: dict[str, str], now: datetime, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
    path = tmp_path / "certificate.pem"
    path.write_text(certificates._pem(builder.sign(key, certificates.hashes.SHA256())))
    lint = [sys.executable, "-m", "pkilint.bin.lint_pkix_cert", "lint", "--severity", "NOTICE", str(path)]
    assert subprocess.run(lint, capture_output=True).returncode != 0


@pytest.mark.parametrize("which", CERTIFICATES)
def test_openssl_verifies_it_strictly(issued: dict[str, str], which: str, now: datetime, tmp_path: Path) -> None:
    ca = issued["next CA" if "next" in which else "CA"]
    (tmp_path / "ca.pem").write_text(ca)
    (tmp_path / "leaf.pem").write_text(issued[which])
    purpose = (
        ["-purpose", "sslclient" if which.startswith("client") else "sslserver"] if "CA" not in which.split()[-1] or "of" in which else []
    )
    at = ["-attime", str(int(now.timestamp()))]
    command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", *at, *purpose, "-CAfile", "ca.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def loaded(issued: dict[str, str]) -> Iterator[tuple[str, x509.Certificate, x509.Certificate]]:
    """Each with the CA that has issued it."""
    for which, pem in issued.items():
        ca = issued["next CA" if "next" in which else "CA"]
        yield which, x509.load_pem_x509_certificate(pem.encode()), x509.load_pem_x509_certificate(ca.encode())


def test_serials_are_random_positive_numbers_of_128_bits(issued: dict[str, str]) -> None:
    serials = [certificate.serial_number for _, certificate, _ in loaded(issued)]
    assert len(set(serials)) == len(serials)
    assert all(0 < serial < 1 << 128 for serial in serials)
    assert max(serials).bit_length() > 112  # all six below: one in 2⁹⁶


def test_keys_are_p256_and_each_has_its_own(issued: dict[str, str]) -> None:
    keys = [certificate.public_key() for _, certificate, _ in loaded(issued)]
    assert all(isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) for key in keys)
    assert len({key.public_numbers() for key in keys if isinstance(key, ec.EllipticCurvePublicKey)}) == len(keys)


def test_who_signed_it_is_named_by_key(issued: dict[str, str]) -> None:
    for which, certificate, ca in loaded(issued):
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        signer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        authority = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert own.digest == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest, which
        assert signer.key_identifier == authority.digest, which
        assert certificate.issuer == ca.subject


def test_what_each_is_for_is_said_exactly(issued: dict[str, str]) -> None:
    for which, certificate, _ in loaded(issued):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert basic.critical and usage.critical
        is_ca = which in ("CA", "next CA")
        assert (basic.value.ca, basic.value.path_length) == ((True, 0) if is_ca else (False, None))
        allowed = {name for name in KEY_USAGES if getattr(usage.value, name)}
        assert allowed == ({"key_cert_sign", "crl_sign"} if is_ca else {"digital_signature"})
        found = [each.value for each in certificate.extensions if isinstance(each.value, x509.ExtendedKeyUsage)]
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        wanted = [server, client] if is_ca else [server] if which.startswith("server") else [client]
        assert [list(each) for each in found] == [wanted]


KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def test_a_ca_is_limited_to_the_fleets_names(issued: dict[str, str]) -> None:
    for which in ("CA", "next CA"):
        certificate = x509.load_pem_x509_certificate(issued[which].encode())
        limits = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert limits.critical
        assert [(type(each), str(each.value)) for each in limits.value.permitted_subtrees or []] == [
            (x509.DNSName, "home.example"),
            (x509.RFC822Name, "home.example"),
            (x509.UniformResourceIdentifier, "home.example"),
            (x509.IPAddress, "192.0.2.0/24"),
        ]

"""One sealed file for browsers and phones, and what takes it in."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from control.pki import certificates
from control.pki.authority import Authority
from control.pki.pkcs12 import ALPHABET, GROUP, GROUPS, new_password, pkcs12_of
from inventory.fleet import Fleet
from inventory.knowledge import Certificate

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["aes", "legacy"])

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def laptop(authority: Authority, fleet: Fleet, now: datetime) -> tuple[Certificate, str]:
    authority.issue(fleet, now)
    return authority.exportable("laptop")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return call


@pytest.fixture
def written(laptop: tuple[Certificate, str], tmp_path: Path) -> Callable[[bool], str]:
    """Writes laptop.p12 and password.txt, and gives the password."""

    def write(legacy: bool) -> str:
        certificate, cas = laptop
        password = new_password()
        (tmp_path / "laptop.p12").write_bytes(pkcs12_of("laptop", certificate.chain, certificate.key, cas, password, legacy=legacy))
        (tmp_path / "password.txt").write_text(password)
        return password

    return write


@BOTH
def test_python_takes_it(written: Callable[[bool], str], laptop: tuple[Certificate, str], tmp_path: Path, legacy: bool) -> None:
    password = written(legacy)
    found = pkcs12.load_pkcs12((tmp_path / "laptop.p12").read_bytes(), password.encode())
    certificate, cas = laptop
    assert found.cert and found.cert.friendly_name == b"laptop" and found.key
    assert certificates._pem(found.cert.certificate) == certificate.chain
    assert found.key.private_bytes(*certificates._PLAIN_PEM).decode() == certificate.key
    assert "".join(certificates._pem(each.certificate) for each in found.additional_certs) == cas
    with pytest.raises(ValueError, match="password"):
        pkcs12.load_pkcs12((tmp_path / "laptop.p12").read_bytes(), b"another")


@BOTH
def test_openssl_takes_it(written: Callable[[bool], str], laptop: tuple[Certificate, str], run: Run, tmp_path: Path, legacy: bool) -> None:
    written(legacy)
    options = ["-in", "laptop.p12", "-passin", "file:password.txt", *(["-legacy"] if legacy else [])]
    done = run("openssl", "pkcs12", *options, "-nodes", "-out", "all.pem")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "all.pem").read_text()
    assert laptop[0].chain.strip() in text and laptop[0].key.strip() in text and laptop[1].strip() in text
    told = run("openssl", "pkcs12", *options, "-info", "-noout").stderr
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" if legacy else "AES-256-CBC") in told
    assert ("MAC: sha1" if legacy else "MAC: sha256") in told


@pytest.mark.skipif(not shutil.which("pk12util"), reason="needs pk12util, from libnss3-tools")
@BOTH
def test_nss_takes_it(written: Callable[[bool], str], run: Run, tmp_path: Path, legacy: bool) -> None:
    written(legacy)
    (tmp_path / "nssdb").mkdir()
    assert run("certutil", "-N", "-d", "sql:nssdb", "--empty-password").returncode == 0
    done = run("pk12util", "-i", "laptop.p12", "-d", "sql:nssdb", "-w", "password.txt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "laptop" in run("certutil", "-L", "-d", "sql:nssdb").stdout
    keys = run("certutil", "-K", "-d", "sql:nssdb").stdout
    assert keys.count("laptop") == 1


def test_a_password_has_more_than_128_bits_and_is_another_each_time() -> None:
    assert GROUPS * GROUP * math.log2(len(ALPHABET)) >= 128
    assert len(set(ALPHABET)) == len(ALPHABET)
    passwords = {new_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(len(each.replace("-", "")) == GROUPS * GROUP and set(each) <= set(ALPHABET) | {"-"} for each in passwords)

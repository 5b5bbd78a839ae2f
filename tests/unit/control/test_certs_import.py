"""A CA that was made with openssl, as people make them, and the client certificates that it has issued."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.deployment.knowledge import knowledge_for
from control.pki import certificates, roll_over
from control.pki.authority import Authority
from control.pki.imported import ca_of, import_client, leaf_of, trust
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet

CA, KEY, CLIENT = "root-ca.pem", "root-ca.key", "client.crt"


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def signed(directory: Path, name: str, ca: str, *options: str) -> Path:
    """`NAME.crt`, made as most instructions have it: without any extension."""
    openssl(
        directory, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
    )
    signing = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "825", "-sha256"]
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing, *options)
    return directory / f"{name}.crt"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a CA with an RSA key of 4096 bits and without name constraints, and of a client."""
    directory = tmp_path_factory.mktemp("openssl")
    subject = ["-subj", "/O=Home/CN=Home Root CA", "-days", "3650"]
    openssl(directory, "req", "-x509", "-newkey", "rsa:4096", "-nodes", "-keyout", KEY, "-out", CA, *subject)
    openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=Other")
    signed(directory, "client", "root-ca")
    return directory


@pytest.fixture
def today() -> datetime:
    """openssl knows no other."""
    return datetime.now(UTC)


def imported(authority: Authority, fleet: Fleet, files: Path, today: datetime, *, signing: bool = False) -> None:
    key = certificates.decrypted((files / KEY).read_text(), None) if signing else None
    issuer = ca_of(fleet, (files / CA).read_text(), key, today, files / CA)
    trust(authority, issuer, key)
    import_client(authority, issuer, "laptop", (files / CLIENT).read_text(), today, files / CLIENT)


@pytest.mark.parametrize("order", ["new fleet", "fleet with a CA"])
def test_its_clients_are_let_in_while_the_fleets_own_ca_signs(
    authority: Authority, state: FleetState, fleet: Fleet, files: Path, today: datetime, order: str
) -> None:
    if order == "fleet with a CA":
        authority.issue(fleet, today)
    imported(authority, fleet, files, today)
    authority.issue(fleet, today)
    knowledge = knowledge_for(fleet, state, now=today)
    assert knowledge.ca.count("BEGIN CERTIFICATE") == 2
    assert knowledge.earlier == {"laptop": ((files / CLIENT).read_text(),)}
    own = authority.cas.signing()
    assert own and own.domain == "home.example"
    assert {record.current.ca for _, record in authority.records() if record.current} == {own.digest}
    assert certificates.is_issued_by(knowledge.clients["laptop"].chain, own.pem)
    assert authority.due(fleet, today) == []


def test_a_ca_that_was_imported_for_clients_signs_for_no_host(
    authority: Authority, state: FleetState, fleet: Fleet, files: Path, today: datetime
) -> None:
    authority.issue(fleet, today)
    imported(authority, fleet, files, today)
    knowledge, own = knowledge_for(fleet, state, now=today), authority.cas.signing()
    assert own and knowledge.host_ca == own.pem and knowledge.ca != own.pem
    roll_over.begin(authority, fleet, today)
    both = knowledge_for(fleet, state, now=today).host_ca
    assert own.pem in both and both.count("BEGIN CERTIFICATE") == 2 and (files / CA).read_text() not in both


def test_looking_at_an_imported_ca_does_not_parse_it(authority: Authority, fleet: Fleet, files: Path, today: datetime) -> None:
    imported(authority, fleet, files, today)
    (issuer,) = authority.cas.trusted()
    assert (issuer.domain, issuer.networks) == (None, frozenset())
    assert authority.cas._as_noted(issuer.id, issuer.pem) == issuer


def test_with_its_key_it_signs(authority: Authority, fleet: Fleet, files: Path, today: datetime, tmp_path: Path) -> None:
    authority.issue(fleet, today)
    imported(authority, fleet, files, today, signing=True)
    assert len(authority.issue(fleet, today)) == 3
    _, servers, clients = authority.current(fleet, today)
    for purpose, leaf in (("sslserver", servers["ai.home.example"]), ("sslclient", clients["laptop"])):
        (tmp_path / "leaf.pem").write_text(leaf.chain)
        verify = ["verify", "-purpose", purpose, "-CAfile", str(files / CA), "leaf.pem"]
        openssl(tmp_path, *verify)
        assert certificates.belongs(leaf.chain, leaf.key) if leaf.key else True
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in authority.cas.path.parent.rglob("*") if path.is_file())


def test_revoking_a_client_throws_out_what_it_brought_along(authority: Authority, fleet: Fleet, files: Path, today: datetime) -> None:
    imported(authority, fleet, files, today)
    authority.issue(fleet, today)
    authority.revoke("laptop", today)
    assert authority.earlier(fleet, today) == {}
    issuer = authority.cas.trusted()[-1]
    with pytest.raises(PaddockError, match="client laptop: is revoked"):
        import_client(authority, issuer, "laptop", (files / CLIENT).read_text(), today, files / CLIENT)


def test_its_trust_ends_with_finish(authority: Authority, state: FleetState, fleet: Fleet, files: Path, today: datetime) -> None:
    imported(authority, fleet, files, today)
    with pytest.raises(PaddockError, match="no CA of the fleet's own signs yet"):
        roll_over.finish(authority)
    authority.issue(fleet, today)
    gone = roll_over.finish(authority)
    assert [leaf.name for leaf in gone.earlier] == ["laptop"]
    knowledge = knowledge_for(fleet, state, now=today)
    assert knowledge.ca.count("BEGIN CERTIFICATE") == 1
    assert knowledge.earlier == {}


def test_what_is_not_what_it_is_said_to_be_is_refused(fleet: Fleet, files: Path, today: datetime) -> None:
    text: Callable[[str], str] = lambda name: (files / name).read_text()  # noqa: E731
    for pem, key, words in (
        (text(CLIENT), None, "is not a CA certificate: it"),
        ("garbled", None, "is not a CA certificate in PEM: there is no line -----BEGIN CERTIFICATE-----$"),
        (text(CA).replace("MI", "X"), None, "is not a CA certificate in PEM: its content cannot be read$"),
        (text(KEY), None, "is not a CA certificate in PEM: there is no line"),
        (text(CA) + text(CLIENT), None, "holds 2 certificates: give that of the CA alone"),
        (text(CA), text("other.key"), "the key is not this CA's"),
    ):
        with pytest.raises(PaddockError, match=words) as told:
            ca_of(fleet, pem, key, today, files / CA)
        assert "\n" not in str(told.value)
    with pytest.raises(PaddockError, match="this CA is valid from"):
        ca_of(fleet, text(CA), None, today + timedelta(days=3651), files / CA)


def test_a_client_certificate_is_looked_at_before_it_is_let_in(fleet: Fleet, files: Path, today: datetime, tmp_path: Path) -> None:
    issuer = ca_of(fleet, (files / CA).read_text(), None, today, files / CA)
    (tmp_path / "server.ext").write_text("extendedKeyUsage = serverAuth\n")
    server = signed(files, "server", "root-ca", "-extfile", str(tmp_path / "server.ext"))
    foreign = signed(files, "foreign", "other")
    for path, then, words in (
        (server, today, "is not for clients"),
        (foreign, today, "was not issued by the CA Home Root CA"),
        (files / KEY, today, "is not a certificate in PEM"),
        (files / CLIENT, today + timedelta(days=900), "expired on"),
    ):
        with pytest.raises(PaddockError, match=words) as told:
            leaf_of(issuer, "laptop", path.read_text(), then, path)
        assert "\n" not in str(told.value)


def test_a_limited_ca_signs_only_where_its_limits_are_the_inventorys(fleet: Fleet, today: datetime, tmp_path: Path) -> None:
    key = certificates.new_key()
    elsewhere = certificates.make_ca(key, "office", "office.example", (), today)
    assert ca_of(fleet, elsewhere, None, today, tmp_path / CA).domain == "office.example"
    with pytest.raises(PaddockError, match="is limited to other names"):
        ca_of(fleet, elsewhere, key, today, tmp_path / CA)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (("rsa:1024", "keyUsage=critical,keyCertSign"), "its RSA key has 1024 bits"),
        (("rsa:2048", "keyUsage=critical,digitalSignature"), "its key usage has no keyCertSign"),
        (("rsa:2048", "extendedKeyUsage=serverAuth"), "its extended key usage is not for servers and clients both"),
    ],
)
def test_a_ca_that_can_vouch_for_nobody_is_refused(
    fleet: Fleet, today: datetime, tmp_path: Path, made: tuple[str, str], words: str
) -> None:
    key, extension = made
    subject = ["-subj", "/CN=Odd", "-addext", extension]
    openssl(tmp_path, "req", "-x509", "-newkey", key, "-nodes", "-keyout", "odd.key", "-out", "odd.pem", *subject)
    with pytest.raises(PaddockError, match=words):
        ca_of(fleet, (tmp_path / "odd.pem").read_text(), None, today, tmp_path / "odd.pem")


def test_a_certificate_is_one_clients_also_after_it_was_thrown_out(
    authority: Authority, fleet: Fleet, files: Path, today: datetime
) -> None:
    imported(authority, fleet, files, today)
    issuer = ca_of(fleet, (files / CA).read_text(), None, today, files / CA)
    with pytest.raises(PaddockError, match="is the certificate of client laptop"):
        import_client(authority, issuer, "phone", (files / CLIENT).read_text(), today, files / CLIENT)
    authority.revoke("laptop", today)
    with pytest.raises(PaddockError, match="was revoked with client laptop"):
        import_client(authority, issuer, "phone", (files / CLIENT).read_text(), today, files / CLIENT)


def test_a_ca_is_no_client(fleet: Fleet, files: Path, today: datetime) -> None:
    issuer = ca_of(fleet, (files / CA).read_text(), None, today, files / CA)
    with pytest.raises(PaddockError, match="is a CA certificate, not a client's"):
        leaf_of(issuer, "laptop", (files / CA).read_text(), today, files / CA)

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyrage
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from control.pki import certificates, roll_over
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet

FleetOf = Callable[..., Fleet]
ROOT = Path(__file__).parents[3]


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def ca_files(state: FleetState) -> Path:
    """Where the one CA of the fleet lies."""
    (directory,) = (state.path / "certs" / "authorities").iterdir()
    return directory


def ca_of(state: FleetState) -> str:
    return (ca_files(state) / "ca.pem").read_text()


def ca_key_name(state: FleetState) -> str:
    return f"certs/authorities/{ca_files(state).name}/key"


def part_of(state: FleetState, client: str, part: str) -> Path:
    """A file of a client that has one certificate: its record, its certificate or its key."""
    clients = state.path / "certs" / "client"
    if part == "json":
        return clients / f"{client}.json"
    (found,) = (clients / client).glob(f"*.{part}")
    return found


def openssl_verify(tmp_path: Path, ca: str, leaf: str, now: datetime, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "root.pem").write_text(ca)
    (tmp_path / "leaf.pem").write_text(leaf)
    command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", str(int(now.timestamp())), "-CAfile", "root.pem"]
    return subprocess.run([*command, *options, "leaf.pem"], cwd=tmp_path, capture_output=True, text=True)


# What is issued


def test_a_new_fleet_is_to_be_issued_everything_and_looking_issues_nothing(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime
) -> None:
    assert authority.due(fleet, now) == ["CA: new", "server ai.home.example: new", "client laptop: new", "client phone: new"]
    assert authority.current(fleet, now) == (None, {}, {})
    assert not state.path.exists()


def test_a_strict_verifier_takes_what_is_issued(authority: Authority, fleet: Fleet, now: datetime, tmp_path: Path) -> None:
    authority.issue(fleet, now)
    ca, servers, clients = authority.current(fleet, now)
    assert ca
    for option, name, is_taken in (("-verify_hostname", "ai.home.example", True), ("-verify_ip", "192.0.2.7", False)):
        done = openssl_verify(tmp_path, ca, servers["ai.home.example"].chain, now, "-purpose", "sslserver", option, name)
        assert (done.returncode == 0) == is_taken, done.stderr
    for client in clients.values():
        done = openssl_verify(tmp_path, ca, client.chain, now, "-purpose", "sslclient")
        assert done.returncode == 0, done.stderr


def test_a_server_is_no_client_and_a_client_no_server(authority: Authority, fleet: Fleet, now: datetime, tmp_path: Path) -> None:
    authority.issue(fleet, now)
    ca, servers, clients = authority.current(fleet, now)
    assert ca
    assert openssl_verify(tmp_path, ca, servers["ai.home.example"].chain, now, "-purpose", "sslclient").returncode
    assert openssl_verify(tmp_path, ca, clients["laptop"].chain, now, "-purpose", "sslserver").returncode


@pytest.mark.parametrize(
    ("networks", "names", "addresses"),
    [
        (["192.0.2.0/24"], ("bank.example",), ()),
        (["192.0.2.0/24"], ("home.example.bank.example",), ()),
        (["192.0.2.0/24"], ("ai.home.example", "bank.example"), ()),
        (["192.0.2.0/24"], ("ai.home.example",), ("198.51.100.1",)),
        (["192.0.2.0/24"], ("ai.home.example",), ("2001:db8::1",)),
        ([], ("ai.home.example",), ("192.0.2.7",)),
        ([], ("ai.home.example",), ("2001:db8::1",)),
    ],
)
def test_even_the_cas_own_key_cannot_sign_for_a_foreign_name(
    authority: Authority,
    state: FleetState,
    vault: Vault,
    fleet_of: FleetOf,
    now: datetime,
    tmp_path: Path,
    networks: list[str],
    names: tuple[str, ...],
    addresses: tuple[str, ...],
) -> None:
    authority.issue(fleet_of(networks=networks), now)
    ca_key = vault.unseal(ca_key_name(state)).decode()
    key = certificates.new_key()
    forged = certificates.sign(ca_of(state), ca_key, "server", key, "x", names, addresses, now, now + timedelta(days=9))
    refused = openssl_verify(tmp_path, ca_of(state), forged, now)
    assert refused.returncode
    assert "subtree violation" in refused.stderr
    fine = certificates.sign(ca_of(state), ca_key, "server", key, "x", ("ai.home.example",), (), now, now + timedelta(days=9))
    assert openssl_verify(tmp_path, ca_of(state), fine, now).returncode == 0


def forged(ca: str, ca_key: str, now: datetime, alternative: x509.GeneralName | None, purpose: x509.ObjectIdentifier) -> str:
    """A leaf that Paddock would not make, signed with the CA's own key."""
    authority, key = certificate(ca), ec.generate_private_key(ec.SECP256R1())
    signer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder(authority.subject, name, key.public_key(), 1, now, now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(signer, critical=False)
    )
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return certificates._pem(builder.sign(certificates._own(ca_key), certificates.hashes.SHA256()))


@pytest.mark.parametrize(
    ("foreign", "own"),
    [
        (x509.RFC822Name("ann@bank.example"), x509.RFC822Name("ann@home.example")),
        (x509.RFC822Name("ann@sub.home.example"), x509.RFC822Name("ann@home.example")),
        (x509.UniformResourceIdentifier("https://bank.example/x"), x509.UniformResourceIdentifier("https://home.example/x")),
        (x509.UniformResourceIdentifier("spiffe://bank.example/x"), x509.UniformResourceIdentifier("spiffe://home.example/x")),
    ],
    ids=str,
)
def test_even_the_cas_own_key_cannot_sign_for_a_foreign_mailbox_or_url(
    foreign: x509.GeneralName, own: x509.GeneralName, now: datetime, tmp_path: Path
) -> None:
    ca_key = certificates.new_key()
    ca = certificates.make_ca(ca_key, "home", "home.example", ("192.0.2.0/24",), now)
    refused = openssl_verify(tmp_path, ca, forged(ca, ca_key, now, foreign, ExtendedKeyUsageOID.CLIENT_AUTH), now)
    assert refused.returncode and "subtree violation" in refused.stderr
    done = openssl_verify(tmp_path, ca, forged(ca, ca_key, now, own, ExtendedKeyUsageOID.CLIENT_AUTH), now)
    assert done.returncode == 0, done.stderr


def test_even_the_cas_own_key_cannot_sign_for_another_purpose_than_tls(now: datetime, tmp_path: Path) -> None:
    """It is the CA that is refused, at depth 1."""
    ca_key = certificates.new_key()
    ca = certificates.make_ca(ca_key, "home", "home.example", ("192.0.2.0/24",), now)
    signed = forged(ca, ca_key, now, x509.RFC822Name("ann@home.example"), ExtendedKeyUsageOID.EMAIL_PROTECTION)
    refused = openssl_verify(tmp_path, ca, signed, now, "-purpose", "smimesign")
    assert refused.returncode and "at 1 depth lookup: unsuitable certificate purpose" in refused.stderr, refused.stderr


def test_another_fleets_ca_does_not_vouch(authority: Authority, fleet: Fleet, now: datetime, tmp_path: Path) -> None:
    authority.issue(fleet, now)
    _, servers, _ = authority.current(fleet, now)
    foreign = certificates.make_ca(certificates.new_key(), "home", "home.example", (), now)
    assert openssl_verify(tmp_path, foreign, servers["ai.home.example"].chain, now).returncode


def test_the_ca_can_sign_leaves_only(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    ca = certificate(ca_of(state))
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert ca.extensions.get_extension_for_class(x509.NameConstraints).critical
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert (ca.not_valid_after_utc - now).days == 3651


def test_a_leaf_says_exactly_what_it_is_for(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    _, servers, clients = authority.current(fleet, now)
    server, client = certificate(servers["ai.home.example"].chain), certificate(clients["laptop"].chain)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ai.home.example"]
    assert names.get_values_for_type(x509.IPAddress) == []
    assert client.subject.rfc4514_string() == "CN=laptop"
    with pytest.raises(x509.ExtensionNotFound):
        client.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    for leaf, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
        assert leaf.not_valid_before_utc == now - timedelta(minutes=5)
        assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert server.not_valid_after_utc - server.not_valid_before_utc < timedelta(days=90)
    assert client.not_valid_after_utc - client.not_valid_before_utc < timedelta(days=180)
    assert server.serial_number.bit_length() > 96
    assert server.serial_number != client.serial_number


def test_a_site_with_a_long_name_verifies(authority: Authority, fleet_of: FleetOf, now: datetime, tmp_path: Path) -> None:
    site = ".".join(["a" * 60, "b" * 60, "home.example"])
    roles = {"caddy": {"sites": {site: {"upstream": "pea"}}}}
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}})
    authority.issue(fleet, now)
    ca, servers, _ = authority.current(fleet, now)
    assert ca
    done = openssl_verify(tmp_path, ca, servers[site].chain, now, "-verify_hostname", site)
    assert done.returncode == 0, done.stderr


def test_a_site_outside_the_domain_is_refused_before_anything_is_made(
    authority: Authority, state: FleetState, fleet_of: FleetOf, now: datetime
) -> None:
    roles = {"caddy": {"sites": {"ai.home.example.bank.example": {"upstream": "pea"}}}}
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}})
    with pytest.raises(PaddockError, match=r"outside the fleet's domain, home\.example"):
        authority.issue(fleet, now)
    assert not state.path.exists()


def test_a_fleet_that_needs_no_certificate_gets_no_ca(authority: Authority, state: FleetState, fleet_of: FleetOf, now: datetime) -> None:
    fleet = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7"}}, clients={})
    assert authority.issue(fleet, now) == []
    assert not state.path.exists()


# What is kept, and who sees it


def test_no_key_lies_or_shows_in_the_clear(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    _, servers, clients = authority.current(fleet, now)
    assert "PRIVATE KEY" in servers["ai.home.example"].key
    assert not any(client.key for client in clients.values())
    assert "PRIVATE KEY" not in repr(servers)
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in state.path.rglob("*") if path.is_file())


def test_git_takes_all_of_it(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    authority.renew(fleet, ["phone"], now)
    authority.revoke("phone", now)
    kept = sorted(path.relative_to(state.path).as_posix() for path in (state.path / "certs").rglob("*") if path.is_file())
    assert [path for path in kept if path.startswith(("certs/authorities/", "certs/revoked/client/phone-"))]
    subprocess.run(["git", "init", "-q", str(state.path)], check=True)
    subprocess.run(["git", "-C", str(state.path), "add", "."], check=True)
    listed = subprocess.run(["git", "-C", str(state.path), "ls-files", "certs"], check=True, capture_output=True, text=True).stdout.split()
    assert sorted(listed) == kept


@pytest.mark.parametrize("story", ["as issued", "renewed in the middle of a roll-over"])
def test_looking_at_what_is_there_loads_no_cryptography(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, tmp_path: Path, story: str
) -> None:
    authority.issue(fleet, now)
    if story != "as issued":
        roll_over.begin(authority, fleet, now)
        authority.renew(fleet, ["phone"], now)
        authority.revoke("laptop", now)
    (tmp_path / "fleet.json").write_text(fleet.model_dump_json(exclude_none=True))
    script = f"""
import sys
from datetime import datetime
from pathlib import Path
from control.deployment.knowledge import knowledge_for
from control.state.fleet import FleetState
from inventory.fleet import Fleet
fleet = Fleet.model_validate_json(Path({str(tmp_path / "fleet.json")!r}).read_text())
context = knowledge_for(fleet, FleetState.of(Path({str(state.inventory)!r}), "home"), now=datetime.fromisoformat({now.isoformat()!r}))
print(*context.servers, *context.clients, "-", *context.earlier, context.ca.count("BEGIN"), "cryptography" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    found = "laptop phone - 1" if story == "as issued" else "phone - phone 2"
    assert done.stdout.strip() == f"ai.home.example {found} False", done.stderr


def test_an_export_is_a_pair_for_the_client_alone(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, tmp_path: Path
) -> None:
    authority.issue(fleet, now)
    for directory in (authority.export("laptop"), authority.export("laptop", tmp_path / "out")):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == dict.fromkeys(
            ("ca.pem", "cert.pem", "key.pem"), 0o600
        )
        cert, key = (directory / "cert.pem").read_text(), (directory / "key.pem").read_text()
        assert certificates.belongs(cert, key)
        assert cert == authority.current(fleet, now)[2]["laptop"].chain
    assert (state.path / "export" / "laptop").is_dir()


def test_who_has_no_certificate_has_nothing_to_export(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    with pytest.raises(PaddockError, match="client tablet: no certificate to export"):
        authority.export("tablet")


# When something is issued again


def test_a_second_issue_changes_nothing(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in state.path.rglob("*") if path.is_file()}
    assert authority.due(fleet, now) == []
    assert authority.issue(fleet, now) == []
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in state.path.rglob("*") if path.is_file()} == before


def test_a_certificate_is_renewed_with_a_third_of_its_life_left(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    assert authority.due(fleet, now + timedelta(days=19)) == []
    assert authority.due(fleet, now + timedelta(days=21)) == ["client phone: expires in 8 days"]
    assert authority.due(fleet, now + timedelta(days=61)) == [
        "server ai.home.example: expires in 28 days",
        "client phone: expired on 2026-03-31",
    ]
    later = now + timedelta(days=61)
    before = authority.current(fleet, now)
    assert authority.current(fleet, later)[1] == {}
    authority.issue(fleet, later)
    ca, servers, clients = authority.current(fleet, later)
    assert ca == before[0]
    assert servers["ai.home.example"].key != before[1]["ai.home.example"].key
    assert clients["phone"] != before[2]["phone"]
    assert clients["laptop"] == before[2]["laptop"]


def test_a_servers_certificate_stands_for_no_address_and_one_from_before_that_does_is_made_anew(
    authority: Authority, fleet: Fleet, state: FleetState, now: datetime
) -> None:
    """To a caller who names no site, Caddy would show a certificate of the address that is called, and so the site's name."""
    authority.issue(fleet, now)
    host = fleet.hosts["pea"].model_copy(update={"address": "192.0.2.8"})
    assert authority.due(fleet.model_copy(update={"hosts": {"pea": host}}), now) == []
    path = state.path / "certs" / "server" / "ai.home.example.json"
    assert '"addresses": []' in path.read_text()
    path.write_text(path.read_text().replace('"addresses": []', '"addresses": ["192.0.2.7"]'))
    assert authority.due(fleet, now) == ["server ai.home.example: its names changed"]
    authority.issue(fleet, now)
    assert authority.due(fleet, now) == []


def test_the_ca_outlives_an_issue_and_is_never_made_again(
    authority: Authority, state: FleetState, fleet: Fleet, fleet_of: FleetOf, now: datetime
) -> None:
    authority.issue(fleet, now)
    kept = {path: path.read_bytes() for path in (state.path / "certs" / "authorities.json", *ca_files(state).iterdir())}
    assert {path.name for path in kept} == {"authorities.json", "ca.pem", "ca.json", "key.age"}
    authority.issue(fleet_of(clients={"laptop": {}, "tablet": {}}), now + timedelta(days=100))
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.parametrize("change", [{"domain": "office.example"}, {"networks": ["198.51.100.0/24"]}, {"networks": []}])
def test_a_changed_limit_is_an_error_that_says_what_the_ca_was_made_for(
    authority: Authority, state: FleetState, fleet: Fleet, fleet_of: FleetOf, now: datetime, change: dict[str, object]
) -> None:
    authority.issue(fleet, now)
    changed = fleet_of(hosts={"pea": {"name": "pea", "address": "192.0.2.7"}}, **change)
    for verb in (authority.due, authority.current, authority.issue):
        with pytest.raises(PaddockError, match=r"was made for home\.example and 192\.0\.2\.0/24, the inventory says"):
            verb(changed, now)
    (ca_files(state) / "ca.json").unlink()  # then the certificate itself tells
    with pytest.raises(PaddockError, match=r"was made for home\.example and 192\.0\.2\.0/24, the inventory says"):
        authority.due(changed, now)
    assert authority.due(fleet, now) == []


def test_a_ca_that_is_moved_away_is_replaced_with_all_that_it_signed(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, tmp_path: Path
) -> None:
    authority.issue(fleet, now)
    for name in ("authorities", "authorities.json"):
        (state.path / "certs" / name).rename(tmp_path / name)
    assert [line.partition(": ")[2] for line in authority.issue(fleet, now)] == ["new", *["made by another CA"] * 3]
    ca, servers, clients = authority.current(fleet, now)
    assert ca
    for leaf in (*servers.values(), *clients.values()):
        assert openssl_verify(tmp_path, ca, leaf.chain, now).returncode == 0


def test_a_lost_list_of_cas_is_told_and_no_other_ca_is_made(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    (state.path / "certs" / "authorities.json").unlink()
    for look in (authority.due, authority.issue):
        with pytest.raises(PaddockError, match=r"authorities\.json: is missing: put it back"):
            look(fleet, now)
    assert not (state.path / "certs" / "authorities.json").exists()


def test_an_expired_ca_is_an_error(authority: Authority, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    with pytest.raises(PaddockError, match="the CA expired on 2036-"):
        authority.due(fleet, now + timedelta(days=3660))


def test_no_leaf_outlives_its_ca(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    authority.issue(fleet, now)
    late = now + timedelta(days=3640)
    authority.issue(fleet, late)
    _, servers, _ = authority.current(fleet, late)
    assert certificate(servers["ai.home.example"].chain).not_valid_after_utc == certificate(ca_of(state)).not_valid_after_utc


def test_without_the_cas_own_key_nothing_is_issued(
    authority: Authority, state: FleetState, vault: Vault, fleet: Fleet, fleet_of: FleetOf, now: datetime
) -> None:
    authority.issue(fleet, now)
    more = fleet_of(clients={"laptop": {}, "phone": {"days": 30}, "tablet": {}})
    vault.seal(ca_key_name(state), certificates.new_key().encode())
    with pytest.raises(PaddockError, match=r"key\.age: is not the key of the CA beside it"):
        authority.issue(more, now)
    vault.path(ca_key_name(state)).unlink()
    with pytest.raises(PaddockError, match=r"key\.age: the CA's key is missing"):
        authority.issue(more, now)
    assert sorted(authority.current(more, now)[2]) == ["laptop", "phone"]


# Who leaves


def test_a_client_that_left_the_inventory_is_off_the_list_at_once_and_stays_off(
    authority: Authority, state: FleetState, fleet: Fleet, fleet_of: FleetOf, now: datetime
) -> None:
    authority.issue(fleet, now)
    old = authority.current(fleet, now)[2]["phone"]
    without = fleet_of(clients={"laptop": {}})
    assert sorted(authority.current(without, now)[2]) == ["laptop"]
    assert authority.due(without, now) == ["client phone: no longer in the inventory"]
    authority.issue(without, now)
    assert authority.due(without, now) == []
    assert {record.current.name for _, record in authority.records() if record.current} == {"ai.home.example", "laptop"}
    revoked = sorted((state.path / "certs" / "revoked" / "client").iterdir())
    assert [path.suffix for path in revoked] == [".json", ".pem"]
    assert revoked[1].read_text() == old.chain
    authority.issue(fleet, now)  # back again, with another certificate
    assert authority.current(fleet, now)[2]["phone"] != old


def test_a_revoked_client_stays_thrown_out_until_it_is_admitted_again(
    authority: Authority, state: FleetState, fleet: Fleet, fleet_of: FleetOf, now: datetime
) -> None:
    authority.issue(fleet, now)
    old = authority.current(fleet, now)[2]["phone"]
    authority.export("phone")
    assert authority.revoke("phone", now)
    for then in (now, now + timedelta(days=19), now + timedelta(days=400)):
        authority.issue(fleet, then)
        assert sorted(authority.current(fleet, then)[2]) == ["laptop"]
        assert "phone" not in authority.earlier(fleet, then)
        assert authority.revoked(fleet) == {"phone": now}
    assert not (state.path / "certs" / "client" / "phone").exists()
    assert not (state.path / "export" / "phone").exists()
    now, thrown_out = then, now
    authority.issue(fleet_of(clients={"laptop": {}}), now)  # out of the inventory, and in again
    assert authority.due(fleet, now) == []
    assert authority.revoked(fleet) == {"phone": thrown_out} and not authority.revoke("phone", now)
    with pytest.raises(PaddockError, match="client phone: revoked on 2026-03-01: `paddock certs issue phone` admits it again"):
        authority.export("phone")
    assert authority.admit(fleet, "phone", now) == "client phone: revoked on 2026-03-01"
    assert authority.current(fleet, now)[2]["phone"] != old
    assert authority.earlier(fleet, now) == {}
    assert authority.admit(fleet, "phone", now) == ""
    with pytest.raises(PaddockError, match="client tablet: has no certificate"):
        authority.revoke("tablet", now)


# What must survive


def pairs_match(authority: Authority, state: FleetState, vault: Vault, fleet: Fleet, now: datetime) -> None:
    """All that is in use is a certificate of this CA with its own key."""
    ca, servers, clients = authority.current(fleet, now)
    for kind, found in (("server", servers), ("client", clients)):
        for name, leaf in found.items():
            assert ca
            record = authority.leaves.record(kind, name)
            assert record.current
            key = vault.unseal(f"certs/{kind}/{record.current.files}.key").decode()
            assert certificates.belongs(leaf.chain, key)
            assert certificates.is_issued_by(leaf.chain, ca)


@pytest.mark.parametrize(
    ("part", "why"),
    [("key.age", "its key is missing"), ("pem", "its certificate is missing or another one"), ("json", "was never finished")],
)
def test_a_pair_that_lacks_a_part_is_due(authority: Authority, state: FleetState, fleet: Fleet, now: datetime, part: str, why: str) -> None:
    authority.issue(fleet, now)
    part_of(state, "laptop", part).unlink()
    assert authority.due(fleet, now) == [f"client laptop: {why}"]
    assert sorted(authority.current(fleet, now)[2]) == ["phone"]


@pytest.mark.parametrize(
    ("part", "why"),
    [("key.age", "its key is another one"), ("pem", "its certificate is missing or another one")],
)
def test_a_pair_with_another_ones_part_is_due(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, part: str, why: str
) -> None:
    authority.issue(fleet, now)
    part_of(state, "laptop", part).write_bytes(part_of(state, "phone", part).read_bytes())
    assert authority.due(fleet, now) == [f"client laptop: {why}"]


def test_a_full_disk_at_any_write_leaves_no_mismatched_pair(
    authority: Authority, state: FleetState, vault: Vault, fleet: Fleet, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = os.fsync, 0
    for allowed in range(100):
        left = allowed

        def fsync(handle: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                authority.issue(fleet, now)
                break
            except PaddockError as error:
                failures += 1
                assert "cannot be written: No space left on device" in str(error)
        pairs_match(authority, state, vault, fleet, now)
        assert not list(state.path.rglob("*.tmp"))
    assert failures > 5
    assert authority.due(fleet, now) == []


def test_a_strangers_identity_stops_it_and_issues_nothing_over_it(
    authority: Authority, state: FleetState, fleet: Fleet, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.issue(fleet, now)
    before = {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()}
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pyrage.x25519.Identity.generate()))
    stranger = Authority(state, Vault(state))
    for verb in (stranger.current, stranger.due, stranger.issue):
        with pytest.raises(PaddockError, match="encrypted for other recipients than you"):
            verb(fleet, now)
    assert {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()} == before

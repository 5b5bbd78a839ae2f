"""The reverse proxy: who is let in, what lies where, and what takes effect how."""

import re
import subprocess
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import ValidationError
from small_fleet import Small, pem

from control.pki import certificates
from inventory.errors import InventoryError, PaddockError
from inventory.neighbours import Caddyfile, Listener
from resources import File, Port, Service, User
from resources.leaving import LEADS_ELSEWHERE
from roles.caddy.pem import certificates_in, fingerprint
from roles.caddy.plan import needs, remarks
from roles.caddy.settings import CaddySettings
from roles.host_plan import host_plan

SITES = "/etc/caddy/paddock/sites.caddy"
TUNNEL = "/etc/systemd/system/paddock-caddy-tunnel-ai.8080.socket"
RESTART = "/etc/systemd/system/caddy.service.d/40-restart.conf"
NEWER = {"url": "https://packages.home.example/caddy.deb", "sha256": "0" * 64, "version": "2.11.4-1"}


def service(small: Small) -> Service:
    found = small.plan("door")["service:caddy.service"]
    assert isinstance(found, Service)
    return found


def sites(small: Small) -> str:
    return small.text("door", SITES)


def test_a_site_lists_the_very_certificates_that_it_lets_in(small: Small) -> None:
    assert "\n\t\t\ttrusted_leaf_cert_file /etc/caddy/paddock/clients/laptop.pem\n" in sites(small)
    assert small.text("door", "/etc/caddy/paddock/clients/laptop.pem") == pem("laptop")


def test_a_revoked_client_is_on_no_list_and_its_certificate_is_gone(small: Small) -> None:
    small.active = ["phone"]
    assert "laptop" not in sites(small)
    assert not [each for each in small.plan("door") if "laptop" in each]


def test_a_site_may_let_in_fewer_than_all(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["clients"] = ["phone"]
    assert "laptop" not in sites(small)
    assert "phone.pem" in sites(small)


@pytest.mark.parametrize("package", [None, NEWER])
def test_who_resumes_a_session_has_to_be_on_the_list_too(small: Small, package: object) -> None:
    small.roles["door"]["caddy"]["package"] = package
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["clients"] = ["phone"]
    small.chains = {"phone": pem("leaf") + pem("above")}
    assert f'@stranger not vars {{tls_client_fingerprint}} "{fingerprint(pem("leaf"))}"\n\t\tabort @stranger\n' in sites(small)


def test_a_client_is_let_in_with_an_earlier_certificate_that_is_still_good(small: Small) -> None:
    small.earlier = {"phone": (pem("before"),)}
    print_before = fingerprint(pem("before"))
    path = f"/etc/caddy/paddock/clients/phone.{print_before[:16]}.pem"
    assert small.text("door", path) == pem("before")
    assert f"trusted_leaf_cert_file {path}\n" in sites(small)
    assert f"\t{print_before} phone\n" in sites(small)
    small.active = ["laptop"]
    assert print_before not in sites(small)


@pytest.mark.parametrize("package", [None, NEWER])
def test_a_site_without_clients_denies_everybody(small: Small, package: object) -> None:
    small.active = []
    small.roles["door"]["caddy"]["package"] = package
    assert "reverse_proxy" not in sites(small)
    assert "require_and_verify" in sites(small)
    assert "403" in sites(small)


@pytest.mark.parametrize("package", [None, NEWER])
def test_no_site_asks_for_certificates_without_saying_of_which_ca(small: Small, package: object) -> None:
    small.roles["door"]["caddy"]["package"] = package
    # The site, and whoever names none.
    assert sites(small).count("require_and_verify") == sites(small).count(" /etc/caddy/paddock/ca.pem") == 2


def test_the_key_is_read_by_root_and_caddy_alone(small: Small) -> None:
    key = small.plan("door")["file:/etc/caddy/paddock/ai.home.example.key"]
    assert isinstance(key, File)
    assert (key.secret, key.owner, key.group, key.mode) == (True, "root", "caddy", 0o640)
    assert "key of" not in repr(key)
    others = [each for each in small.plan("door").values() if isinstance(each, File) and each.id != key.id]
    assert not [each for each in others if b"key of" in each.data]


def test_what_has_not_been_issued_says_so(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"] = {"new.home.example": {"upstream": "ai"}}
    assert small.text("door", "/etc/caddy/paddock/new.home.example.pem") == "<to be issued>"


def test_an_upstream_on_the_same_host_is_reached_by_its_socket(small: Small) -> None:
    assert "reverse_proxy unix//run/paddock/llama-server.sock {\n" in small.text("one", SITES)
    assert "SupplementaryGroups=paddock-callers\n" in small.text("one", RESTART)
    small.roles["ai"]["llama_server"]["encrypted"] = False
    assert "SupplementaryGroups=" not in small.text("door", RESTART)


def test_a_caddy_from_before_paddock_is_in_no_group_of_its_and_reaches_a_server_of_its_host_on_loopback(small: Small) -> None:
    small.roles["one"]["caddy"] |= {"shared": True, "package": NEWER}
    assert "reverse_proxy 127.0.0.1:8080 {\n" in small.text("one", SITES)
    assert "SupplementaryGroups=" not in small.text("one", RESTART)


def test_an_accounts_own_server_on_the_same_host_is_reached_on_loopback(small: Small) -> None:
    small.roles["one"]["llama_server"]["user"] = "ann"
    assert "reverse_proxy 127.0.0.1:8080 {\n" in small.text("one", SITES)


def test_an_upstream_on_another_host_is_reached_by_a_tunnel_and_must_be_ready_first(small: Small) -> None:
    assert "reverse_proxy unix//run/paddock/hop-ai.8080.sock {\n" in sites(small)
    assert "SupplementaryGroups=paddock-callers\n" in small.text("door", RESTART)
    settings = small.fleet.role("door", "caddy", CaddySettings)
    assert settings and list(needs(small.fleet.hosts["door"], settings, small.fleet)) == ["ai"]


def test_a_hop_comes_and_goes_beside_the_others(small: Small) -> None:
    """Nothing of another hop is touched: not its sockets, and so no stream that it passes on."""

    def hop(host: str) -> list[Service | File]:
        return [each for id, each in small.plan("door").items() if f"{host}.8080." in id and isinstance(each, Service | File)]

    small.roles["two"] = small.roles["ai"]
    before = hop("ai")
    assert not hop("two")
    small.roles["door"]["caddy"]["sites"]["two.home.example"] = {"upstream": "two"}
    assert hop("ai") == before and len(hop("two")) == len(before) == 8
    services = [each.id for each in hop("two") if isinstance(each, Service)]
    assert services == [f"{LEADS_ELSEWHERE}-two.8080.{kind}" for kind in ("socket", "service")]


def test_an_upstream_on_another_hosts_loopback_is_refused(small: Small) -> None:
    small.roles["ai"]["llama_server"]["listen"] = "127.0.0.1:8080"
    with pytest.raises(InventoryError, match=r"hosts\.ai\.roles\.llama_server\.listen: 127\.0\.0\.1:8080 cannot be reached from door"):
        small.plan("door")


def test_an_upstream_that_is_not_to_be_encrypted_is_reached_at_its_address(small: Small) -> None:
    small.roles["ai"]["llama_server"]["encrypted"] = False
    assert "reverse_proxy 192.0.2.10:8080 {\n" in sites(small)


def test_a_caddy_from_before_paddock_reaches_another_host_by_a_tunnel_that_is_open_to_its_own_group(small: Small) -> None:
    assert "SocketGroup=paddock-callers\nSocketMode=0660\n" in small.text("door", TUNNEL)
    small.roles["door"]["caddy"] |= {"shared": True, "package": NEWER}
    assert "reverse_proxy unix//run/paddock/hop-ai.8080.sock {\n" in sites(small)
    assert "SocketGroup=caddy\nSocketMode=0660\n" in small.text("door", TUNNEL)
    assert "SupplementaryGroups=caddy\n" in small.text("door", "/etc/systemd/system/paddock-model-list.service")


def test_an_ipv6_upstream_stands_in_brackets(small: Small) -> None:
    small.roles["ai"]["llama_server"]["encrypted"] = False
    small.roles["ai"]["llama_server"]["listen"] = "[2001:db8::10]:8080"
    assert "reverse_proxy [2001:db8::10]:8080 {\n" in sites(small)


def test_an_ipv4_address_is_not_opened_for_ipv6_as_well(small: Small) -> None:
    assert "bind tcp4/0.0.0.0\n" in sites(small)
    port = small.plan("door")["port:443/tcp"]
    assert isinstance(port, Port) and port.addresses == ("0.0.0.0",)


def test_both_families_at_once_are_one_socket(small: Small) -> None:
    small.roles["door"]["caddy"]["listen"] = "[::]:443"
    assert "bind ::\n" in sites(small)
    port = small.plan("door")["port:443/tcp"]
    assert isinstance(port, Port) and port.addresses == ("*",)


def test_without_a_redirect_nothing_listens_for_plain_http(small: Small) -> None:
    assert "port:80/tcp" in small.plan("door")
    small.roles["door"]["caddy"]["redirect"] = False
    assert "port:80/tcp" not in small.plan("door")
    assert "auto_https disable_redirects" in sites(small)


def test_the_distributions_caddy_is_restarted_for_a_reload_ends_it(small: Small) -> None:
    before = service(small)
    small.active = ["laptop"]
    after = service(small)
    assert not after.reloads
    assert before.started != after.started


def test_a_newer_caddy_reloads_its_clients_and_goes_on_running(small: Small) -> None:
    small.roles["door"]["caddy"]["package"] = NEWER
    before = service(small)
    small.active = ["laptop"]
    after = service(small)
    assert before.started == after.started
    assert before.loaded != after.loaded


def test_another_version_of_caddy_asks_for_a_restart(small: Small) -> None:
    small.roles["door"]["caddy"]["package"] = NEWER
    before = service(small)
    small.roles["door"]["caddy"]["package"] = {**NEWER, "version": "2.12.0-1"}
    assert before.started != service(small).started


@pytest.mark.parametrize(
    ("version", "why"),
    [("2.11.3-1", r"Caddy 2\.11\.3 rejects every client"), ("2.4.6-1", r"Caddy 2\.4\.6 is older than 2\.6\.2")],
)
def test_a_version_that_is_known_to_be_bad_is_refused_wherever_it_comes_from(small: Small, version: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CaddySettings.model_validate({"package": {**NEWER, "version": version}})
    small.hardware = replace(small.hardware, caddy=version)
    with pytest.raises(PaddockError, match=rf"^hosts\.door\.roles\.caddy: its Caddy is {version}: {why}.*; name a package file") as told:
        small.plan("door")
    assert "\n" not in str(told.value)


def test_a_bad_version_is_taken_for_a_reason_that_somebody_gives(small: Small) -> None:
    reason = {"2.11.3": "no site of this host lists its clients"}
    assert CaddySettings.model_validate({"accept": reason, "package": {**NEWER, "version": "2.11.3-1"}}).package
    small.hardware = replace(small.hardware, caddy="2.11.3")
    small.roles["door"]["caddy"]["accept"] = reason
    assert "trust_pool" in sites(small)
    with pytest.raises(ValidationError, match="is not a reason"):
        CaddySettings.model_validate({"accept": {"2.11.3": "  "}})


@pytest.mark.parametrize(
    ("version", "trust", "reloads"),
    [
        ("", "trusted_ca_cert_file", False),
        ("2.6.2-12+deb13u1", "trusted_ca_cert_file", False),
        ("2.7.6", "trusted_ca_cert_file", False),
        ("2.8.4", "trust_pool file", True),
        ("1:2.11.4-1", "trust_pool file", True),
    ],
)
def test_the_version_that_the_host_has_decides_syntax_and_whether_it_is_reloaded(
    small: Small, version: str, trust: str, reloads: bool
) -> None:
    small.hardware = replace(small.hardware, caddy=version)
    assert f"\t\t\t{trust} /etc/caddy/paddock/ca.pem\n" in sites(small)
    assert bool(service(small).reloads) == reloads
    assert bool(service(small).cuts) != reloads, "plan says what a restart breaks off"
    assert ("file:/etc/caddy/paddock/cut" in small.plan("door")) == reloads
    assert ("ExecReload" in small.text("door", "/etc/systemd/system/caddy.service.d/40-restart.conf")) == reloads


def test_a_package_file_goes_before_what_the_host_has(small: Small) -> None:
    small.hardware = replace(small.hardware, caddy="2.6.2-12")
    small.roles["door"]["caddy"]["package"] = NEWER
    assert "trust_pool" in sites(small)


WHOLE = pem("laptop")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbled",
        WHOLE[:40],
        WHOLE.replace("MA", "!!", 1),
        WHOLE.replace("-----END", "----END"),
        WHOLE + "-----BEGIN CERTIFICATE-----\nMA",
    ],
)
def test_a_certificate_that_cannot_be_read_is_refused_and_no_site_is_open(small: Small, text: str) -> None:
    small.chains = {"laptop": text}
    with pytest.raises(PaddockError, match=r"^hosts\.door\.roles\.caddy: the certificate of client laptop is .*: put it back"):
        small.plan("door")


def test_a_certificate_that_ends_too_early_is_refused(small: Small) -> None:
    der = b64decode(WHOLE.splitlines()[1])
    for broken in (der[:-1], der + b"\0", b"\x30\x82" + der[1:], b"\x30\x00"):
        small.chains = {"laptop": f"-----BEGIN CERTIFICATE-----\n{b64encode(broken).decode()}\n-----END CERTIFICATE-----\n"}
        with pytest.raises(PaddockError, match="is cut short or garbled"):
            small.plan("door")


def test_an_earlier_certificate_or_a_ca_that_cannot_be_read_is_refused(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small.earlier = {"phone": ("garbled",)}
    with pytest.raises(PaddockError, match="an earlier certificate of client phone is not a certificate in PEM"):
        small.plan("door")
    small.earlier = {}
    context = small.context
    for text in ("", "garbled", pem("one") + "-----BEGIN CERTIFICATE-----"):
        with pytest.raises(PaddockError, match=r"^hosts\.door\.roles\.caddy: the fleet's CA is not a certificate in PEM: put it back"):
            host_plan(small.fleet.hosts["door"], small.fleet, replace(context, ca=text))
    both = replace(context, ca=pem("old") + pem("new"))
    assert host_plan(small.fleet.hosts["door"], small.fleet, both)


def test_a_real_certificate_is_whole_and_its_print_is_that_of_its_bytes() -> None:
    key = certificates.new_key()
    ca = certificates.make_ca(key, "home", "home.example", (), datetime.now(UTC))
    (der,) = certificates_in(ca)
    assert x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex() == fingerprint(ca)


def test_both_families_apart_are_two_sockets_of_one_port(small: Small) -> None:
    small.roles["door"]["caddy"]["listen"] = ["0.0.0.0:443", "[::]:443"]
    assert "bind tcp4/0.0.0.0 tcp6/::\n" in sites(small)
    for number in (443, 80):
        port = small.plan("door")[f"port:{number}/tcp"]
        assert isinstance(port, Port) and port.addresses == ("0.0.0.0", "::")


@pytest.mark.parametrize(
    ("listen", "bind", "addresses"),
    [
        (["0.0.0.0:443", "[::]:443"], "127.0.0.1 tcp4/0.0.0.0 tcp6/::", ("127.0.0.1", "0.0.0.0", "::")),
        (["0.0.0.0:443"], "127.0.0.1 tcp4/0.0.0.0", ("127.0.0.1", "0.0.0.0")),
        (["[::]:443"], "::", ("*",)),
        (["[::]:443", "192.0.2.11:443"], "192.0.2.11 tcp6/::", ("192.0.2.11", "::")),
    ],
)
def test_where_acme_looks_there_is_an_address_that_it_understands(
    small: Small, listen: list[str], bind: str, addresses: tuple[str, ...]
) -> None:
    caddy = small.roles["door"]["caddy"]
    caddy["listen"] = listen
    caddy["sites"]["ai.home.example"]["acme"] = {"email": "me@home.example"}
    assert f"\tbind {bind}\n" in sites(small)
    port = small.plan("door")["port:443/tcp"]
    assert isinstance(port, Port) and port.addresses == addresses


def test_another_port_is_part_of_the_origin_and_of_the_entrance(small: Small) -> None:
    small.roles["door"]["caddy"]["listen"] = "0.0.0.0:8443"
    assert "header Origin https://ai.home.example:8443\n" in sites(small)
    assert [each.url for each in small.fleet.entrances() if each.host == "door"] == ["https://ai.home.example:8443"]


def test_a_page_of_another_origin_may_call_only_where_the_inventory_names_it(small: Small) -> None:
    assert sites(small).count("header Origin") == 2
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = ["https://chat.home.example"]
    assert "\t\t\t\theader Origin https://chat.home.example\n" in sites(small)


def test_only_administrators_get_through_to_the_admin_endpoint(small: Small) -> None:
    small.roles["ai"]["admin"] = {"listen": "0.0.0.0:8079"}
    small.administrators = ("laptop",)
    assert f'@admin vars {{tls_client_fingerprint}} "{fingerprint(pem("laptop"))}"\n' in sites(small)
    assert "reverse_proxy unix//run/paddock/hop-ai.8079.sock {\n\t\t\t\t\timport /etc/caddy/paddock/ai.admin\n" in sites(small)
    key = small.plan("door")["file:/etc/caddy/paddock/ai.admin"]
    assert isinstance(key, File) and key.data == b'header_up Authorization "Bearer sk-of-ai"\n'
    assert (key.secret, key.group, key.mode) == (True, "caddy", 0o640)
    assert "sk-of-ai" not in sites(small)
    small.secrets = {"admin.ai": 'sk"\n}'}
    with pytest.raises(PaddockError, match=r"the secret admin\.ai is no key: .* `paddock secrets set admin\.ai`") as told:
        small.plan("door")
    assert "sk" not in str(told.value).replace("secret", "")


def test_without_administrators_nobody_gets_through_to_the_admin_endpoint(small: Small) -> None:
    small.roles["ai"]["admin"] = {"listen": "0.0.0.0:8079"}
    assert "8079" not in sites(small)
    assert "@admin" not in sites(small)  # a matcher of nothing is none that Caddy takes
    assert "403" in sites(small)


def test_a_site_before_a_host_without_an_admin_endpoint_says_so(small: Small) -> None:
    small.administrators = ("laptop",)
    assert 'There is no admin endpoint behind this site."}}` 404\n' in sites(small)


def test_a_site_over_acme_has_its_certificate_from_there_and_its_clients_from_the_fleet(small: Small) -> None:
    acme = {"email": "me@home.example", "directory": "https://acme.home.example/dir", "root": "acme.pem"}
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["acme"] = acme
    small.roots = {"acme.pem": pem("authority")}
    assert "\t\tissuer acme {\n\t\t\tdir https://acme.home.example/dir\n\t\t\temail me@home.example\n" in sites(small)
    assert "trusted_ca_cert_file /etc/caddy/paddock/ca.pem" in sites(small)
    assert small.text("door", "/etc/caddy/paddock/ai.home.example.acme.pem") == pem("authority")
    assert "file:/etc/caddy/paddock/ai.home.example.key" not in small.plan("door")
    for text, words in (("", "is not there, or is empty: get"), ("<html>", "is not a certificate in PEM: expected")):
        small.roots = {"acme.pem": text}
        with pytest.raises(PaddockError, match=rf"^hosts\.door\.roles\.caddy\.sites\.ai\.home\.example\.acme\.root: acme\.pem {words}"):
            sites(small)


def test_in_a_shared_caddyfile_there_are_no_options(small: Small) -> None:
    small.hardware = replace(small.hardware, caddy="2.11.4-1")
    assert "grace_period" in sites(small)
    small.roles["door"]["caddy"]["shared"] = True
    assert "\n{\n" not in sites(small)
    assert not [each for each in small.plan("door") if each.endswith("/udp")]  # whether there is HTTP/3, others decide


@pytest.mark.parametrize(("version", "admin", "reloads"), [("2.6.2", "", False), ("2.11.4", "", True), ("2.11.4", "off", False)])
def test_a_caddy_that_others_use_is_reloaded_where_that_is_safe_and_goes_on(small: Small, version: str, admin: str, reloads: bool) -> None:
    small.roles["door"]["caddy"]["shared"] = True
    small.hardware = replace(small.hardware, caddy=version, caddyfile=Caddyfile(administration=admin))
    assert (bool(service(small).reloads), service(small).joins) == (reloads, reloads)
    assert bool(service(small).left_open) == reloads
    if reloads:
        assert "ss -K" not in small.text("door", "/etc/caddy/paddock/cut")
        assert "unset CADDY_ADMIN" in small.text("door", "/etc/systemd/system/caddy.service.d/40-restart.conf")


@pytest.mark.parametrize(
    ("noted", "active", "left"), [("laptop phone", "laptop phone", 1), ("laptop", "laptop phone", 1), ("laptop phone", "laptop", 0)]
)
def test_who_has_been_admitted_and_is_no_more_has_something_left_open(
    small: Small, tmp_path: Path, noted: str, active: str, left: int
) -> None:
    small.roles["door"]["caddy"]["shared"] = True
    small.hardware = replace(small.hardware, caddy="2.11.4", caddyfile=Caddyfile())
    small.active = noted.split()
    (tmp_path / "noted").write_text(small.text("door", "/etc/caddy/paddock/admitted"))
    for each, code in ((active, left), ("", 0)):
        small.active = each.split()
        command = service(small).left_open.replace("/run/paddock/caddy.service.admitted", str(tmp_path / "noted"))
        assert subprocess.run(["sh", "-c", command]).returncode == code
    assert subprocess.run(["sh", "-c", service(small).left_open]).returncode != 0, "nobody has been admitted yet"


CATCH_ALL = "\nhttps://:443 {\n"
DROPINS = "/etc/systemd/system/caddy.service.d"


@pytest.mark.parametrize("package", [None, NEWER])
def test_whoever_names_no_site_needs_a_listed_certificate_of_any_and_gets_nothing(small: Small, package: object) -> None:
    caddy = small.roles["door"]["caddy"]
    caddy["package"] = package
    caddy["sites"]["ai.home.example"]["clients"] = ["phone"]
    caddy["sites"]["one.home.example"] = {"upstream": "ai", "clients": ["laptop"]}
    small.roles["one"]["caddy"]["sites"] = {}
    begin = sites(small).index(CATCH_ALL)
    block = sites(small)[begin : sites(small).index("\n}\n", begin)].split("\n\t")
    assert block[1:3] == ["bind tcp4/0.0.0.0", "tls {"] and block[-1] == "abort"
    assert [f"\t\ttrusted_leaf_cert_file /etc/caddy/paddock/clients/{name}.pem" in block for name in ("phone", "laptop")] == [True, True]
    assert ".key" not in "".join(block) and "log {" in block  # of a site without a log, 2.6.2 makes that the others have none
    small.active = []
    begin = sites(small).index(CATCH_ALL)
    assert "require_and_verify" in sites(small)[begin:] and "abort" in sites(small)[begin:]


def test_a_host_without_sites_catches_nothing(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"] = {}
    small.roles["one"]["caddy"]["sites"] = {}
    assert CATCH_ALL not in sites(small)


def test_in_a_shared_caddyfile_catch_all_and_sandbox_are_asked_for(small: Small) -> None:
    caddy = small.roles["door"]["caddy"]
    small.hardware = replace(small.hardware, caddy="2.11.4-1", caddyfile=Caddyfile())
    assert CATCH_ALL in sites(small) and f"file:{DROPINS}/45-sandbox.conf" in small.plan("door")
    caddy["shared"] = True
    assert CATCH_ALL not in sites(small) and f"file:{DROPINS}/45-sandbox.conf" not in small.plan("door")
    caddy |= {"catch_all": True, "sandbox": True}
    assert CATCH_ALL in sites(small) and "UMask" not in small.text("door", f"{DROPINS}/45-sandbox.conf")
    assert not service(small).joins  # a process that goes on would go on without its sandbox


def test_a_plan_says_what_they_cost_and_what_it_costs_to_do_without(small: Small) -> None:
    caddy = small.roles["door"]["caddy"]
    caddy["shared"] = True
    listeners = (Listener(":443", ("open.home.example", "own.home.example"), with_tls=("own.home.example",)),)
    theirs = Caddyfile(listeners, reads=("/home/ann/www", "/srv/www"), writes=("/srv/logs/a.log", "/var/log/caddy/b.log"))
    small.hardware = replace(small.hardware, caddyfile=theirs)
    host = small.fleet.hosts["door"]

    def said() -> list[str]:
        settings = small.fleet.role("door", "caddy", CaddySettings)
        assert settings
        return [each for each in remarks(host, settings, small.fleet, small.context) if each.startswith("hosts.door.roles.caddy: ")]

    hides, callers = "/home/ann/www from Caddy", "callers of open.home.example show a client certificate of the fleet"
    lacking = said()
    assert [hides in lacking[0], "keep Caddy from writing to /srv/logs/a.log" in lacking[0], callers in lacking[1]] == [True] * 3
    assert ("sandbox: true" in lacking[0], "catch_all: true" in lacking[1]) == (True, True)
    caddy |= {"catch_all": True, "sandbox": True}
    assert said() == [
        f"hosts.door.roles.caddy: the sandbox is to hide {hides} and to keep Caddy from writing to /srv/logs/a.log",
        f"hosts.door.roles.caddy: catch_all is to have {callers}",
    ]
    small.hardware = replace(small.hardware, caddyfile=Caddyfile())
    assert said() == []
    caddy["shared"] = False
    assert said() == []


def test_caddys_account_stays_in_the_groups_of_other_sites(small: Small) -> None:
    small.roles["door"]["caddy"]["shared"] = True
    account = small.plan("door")["user:caddy"]
    assert isinstance(account, User) and not account.only


def test_who_is_admitted_is_a_sorted_list_that_a_reload_compares(small: Small) -> None:
    listed = small.text("door", "/etc/caddy/paddock/admitted").splitlines()
    assert listed == sorted(f"ai.home.example {fingerprint(pem(name))}" for name in ("laptop", "phone"))


def test_a_configuration_is_validated_by_the_user_who_reads_it(small: Small) -> None:
    (command,) = service(small).validate
    assert "| runuser -u caddy -- " in command and "caddy validate" in command


PAGES = ["https://chat.home.example", "http://localhost:3000"]


def test_pages_of_origins_that_a_site_names_may_read_its_answers_and_no_others(small: Small) -> None:
    assert "Access-Control" not in sites(small)
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = PAGES
    named = "".join(f"\t\t\theader Origin {page}\n" for page in PAGES)
    allow = "\t\t\tAccess-Control-Allow-Origin {http.request.header.Origin}\n\t\t\tAccess-Control-Allow-Credentials true\n"
    assert f"\t\theader +Vary Origin\n\t\t@page {{\n{named}\t\t}}\n\t\theader @page {{\n{allow}\t\t}}\n" in sites(small)
    assert f"\t\t\tmethod OPTIONS\n\t\t\theader Access-Control-Request-Method *\n{named}" in sites(small)
    # Before that a site turns away all others, and whoever shows no certificate that is on its list.
    assert sites(small).index("abort @stranger") < sites(small).index("respond @foreign") < sites(small).index("header @page")


def test_a_preflight_allows_what_openais_clients_send_and_what_the_site_opens(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"]["ai.home.example"] |= {"origins": PAGES, "routes": ["PUT /lora-adapters", "GET /metrics"]}
    (allowed,) = re.findall(r'Access-Control-Allow-Headers "(.*)"', sites(small))
    assert {"authorization", "content-type", "x-stainless-os", "x-stainless-retry-count"} <= set(allowed.split(", "))
    assert "*" not in allowed  # which stands for itself where a certificate is shown
    assert 'Access-Control-Allow-Methods "GET, POST, PUT"' in sites(small)


def test_an_answer_says_once_who_may_read_it(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = PAGES
    assert sites(small).count("header_down -Access-Control-Allow-Origin\n") == sites(small).count("reverse_proxy ") == 2


def test_a_site_that_names_its_own_origin_answers_as_one_that_names_none(small: Small) -> None:
    before = sites(small)
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = ["https://ai.home.example"]
    assert "Access-Control" not in sites(small)
    assert sites(small).replace("\t\t\t\theader Origin https://ai.home.example\n", "", 1) == before

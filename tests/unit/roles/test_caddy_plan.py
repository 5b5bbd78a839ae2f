"""The reverse proxy: who is let in, what lies where, and what takes effect how."""

from base64 import b64encode
from hashlib import sha256

import pytest
from pydantic import ValidationError
from small_fleet import Small

from inventory.errors import InventoryError
from roles.caddy.plan import needs
from roles.caddy.settings import CaddySettings
from roles.resources import File, Port, Service

SITES = "/etc/caddy/paddock/sites.caddy"
NEWER = {"url": "https://packages.home.example/caddy.deb", "sha256": "0" * 64, "version": "2.11.4-1"}


def service(small: Small) -> Service:
    found = small.plan("door")["service:caddy.service"]
    assert isinstance(found, Service)
    return found


def sites(small: Small) -> str:
    return small.text("door", SITES)


def test_a_site_lists_the_very_certificates_that_it_lets_in(small: Small) -> None:
    assert "\n\t\t\ttrusted_leaf_cert_file /etc/caddy/paddock/clients/laptop.pem\n" in sites(small)
    assert small.text("door", "/etc/caddy/paddock/clients/laptop.pem") == "leaf of laptop"


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
    leaf, above = (f"-----BEGIN CERTIFICATE-----\n{b64encode(der).decode()}\n-----END CERTIFICATE-----\n" for der in (b"leaf", b"above"))
    small.chains = {"phone": leaf + above}
    assert f'@stranger not vars {{tls_client_fingerprint}} "{sha256(b"leaf").hexdigest()}"\n\tabort @stranger\n' in sites(small)


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
    assert sites(small).count("require_and_verify") == sites(small).count(" /etc/caddy/paddock/ca.pem") == 1


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


def test_an_upstream_on_the_same_host_is_reached_on_loopback(small: Small) -> None:
    assert "reverse_proxy 127.0.0.1:8080\n" in small.text("one", SITES)


def test_an_upstream_on_another_host_is_reached_at_its_address_and_must_be_ready_first(small: Small) -> None:
    assert "reverse_proxy 192.0.2.10:8080\n" in sites(small)
    settings = small.fleet.role("door", "caddy", CaddySettings)
    assert settings and list(needs(small.fleet.hosts["door"], settings, small.fleet)) == ["ai"]


def test_an_upstream_on_another_hosts_loopback_is_refused(small: Small) -> None:
    small.roles["ai"]["llama_server"]["listen"] = "127.0.0.1:8080"
    with pytest.raises(InventoryError, match=r"hosts\.ai\.roles\.llama_server\.listen: 127\.0\.0\.1:8080 is out of reach for door"):
        small.plan("door")


def test_an_ipv6_upstream_stands_in_brackets(small: Small) -> None:
    small.roles["ai"]["llama_server"]["listen"] = "[2001:db8::10]:8080"
    assert "reverse_proxy [2001:db8::10]:8080\n" in sites(small)


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


def test_the_version_that_breaks_lists_of_clients_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"Caddy 2\.11\.3 refuses every client"):
        CaddySettings.model_validate({"package": {**NEWER, "version": "2.11.3-1"}})


def test_a_configuration_is_validated_by_the_user_who_reads_it(small: Small) -> None:
    (command,) = service(small).validate
    assert command.startswith("runuser -u caddy -- ")

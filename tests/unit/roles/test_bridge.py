"""The bridge: whose key it asks for, whom it turns away, what it shows to the site, and what makes it start anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from small_fleet import Small

from inventory.errors import PaddockError
from inventory.knowledge import Certificate, Knowledge
from resources import File, Package, Port, Resource, Service
from roles.client.settings import bridge_key_name
from roles.host_plan import host_plan
from roles.llama_server.settings import api_key_name

ANNAS = "/etc/paddock/clients/anna"
KEY, UPSTREAM_KEY = "sk-annas", "sk-the-servers"


class Desk:
    """The host `desk` of the small fleet, at which `anna` sits with the certificate of `laptop`."""

    def __init__(self, small: Small) -> None:
        self.small = small
        self.seat: dict[str, Any] = {"client": "laptop", "bridge": "127.0.0.1:8399", "site": "ai.home.example"}
        self.beside: dict[str, Any] = {}
        self.accounts: dict[str, Any] = {}
        self.secrets = {bridge_key_name("desk", "anna"): KEY, api_key_name("ai"): UPSTREAM_KEY}
        self.roots: dict[str, str] = {}
        self.identity = Certificate("leaf of laptop", "key of laptop")

    @property
    def plan(self) -> dict[str, Resource]:
        self.small.roles["desk"] = {**self.beside, "client": {"accounts": {"anna": self.seat, **self.accounts}}}
        fleet = self.small.fleet
        parts = host_plan(fleet.hosts["desk"], fleet, self.context)
        return {each.id: each for part in parts.values() for each in part}

    @property
    def context(self) -> Knowledge:
        return replace(self.small.context, identities={"laptop": self.identity}, secrets=self.secrets, roots=self.roots)

    def file(self, path: str) -> File:
        found = self.plan[f"file:{path}"]
        assert isinstance(found, File)
        return found

    def text(self, name: str) -> str:
        return self.file(f"{ANNAS}/{name}").data.decode()

    @property
    def service(self) -> Service:
        found = self.plan["service:paddock-bridge-anna.service"]
        assert isinstance(found, Service)
        return found


@pytest.fixture
def desk(small: Small) -> Desk:
    return Desk(small)


def refused(desk: Desk) -> dict[str, tuple[int, dict[str, Any]]]:
    """What each matcher is answered with."""
    found = re.findall(r"^\t\trespond @(\w+) `(.*)` (\d+)$", desk.text("bridge.caddy"), re.MULTILINE)
    return {matcher: (int(status), json.loads(body)["error"]) for matcher, body, status in found}


def test_it_is_the_accounts_own_process_on_loopback(desk: Desk) -> None:
    assert "\nUser=anna\n" in desk.file("/etc/systemd/system/paddock-bridge-anna.service").data.decode()
    assert "\tbind 127.0.0.1\n" in desk.text("bridge.caddy")
    assert desk.service.ports == (Port(8399, ("127.0.0.1",), "paddock-bridge-anna.service"),)


def test_the_account_finds_address_and_key_ready_made(desk: Desk) -> None:
    assert desk.text("bridge.env") == f"OPENAI_BASE_URL=http://127.0.0.1:8399/v1\nOPENAI_API_KEY={KEY}\n"
    assert desk.text("bridge.key") == f"{KEY}\n"


def test_the_key_is_readable_to_the_account_and_to_no_other(desk: Desk) -> None:
    with_keys = [
        each for each in desk.plan.values() if isinstance(each, File) and (KEY in str(each.data) or UPSTREAM_KEY in str(each.data))
    ]
    assert {each.path for each in with_keys} == {f"{ANNAS}/bridge.env", f"{ANNAS}/bridge.key"}
    assert {(each.secret, each.owner, each.group, each.mode) for each in with_keys} == {(True, "root", "anna", 0o640)}


def test_who_is_refused_hears_why_as_json_before_anything_is_passed_on(desk: Desk) -> None:
    found = refused(desk)
    assert {matcher: status for matcher, (status, _) in found.items()} == {"elsewhere": 403, "page": 403, "preflight": 403, "stranger": 401}
    assert all(error["message"] and error["code"] for _, error in found.values())
    text = desk.text("bridge.caddy")
    assert text.index("respond @stranger") < text.index("reverse_proxy")


def test_only_loopbacks_own_names_and_origins_are_known(desk: Desk) -> None:
    text = desk.text("bridge.caddy")
    assert '@elsewhere not vars {http.request.hostport} "127.0.0.1:8399" "localhost:8399"\n' in text
    assert '@page not vars {http.request.header.Origin} "" "http://127.0.0.1:8399" "http://localhost:8399"\n' in text


def test_an_ipv6_loopback_is_called_in_brackets(desk: Desk) -> None:
    desk.seat["bridge"] = "[0:0::1]:8399"
    assert '"[::1]:8399" "localhost:8399"\n' in desk.text("bridge.caddy")
    assert "\tbind ::1\n" in desk.text("bridge.caddy")
    assert "OPENAI_BASE_URL=http://[::1]:8399/v1\n" in desk.text("bridge.env")


def test_the_site_is_called_at_its_hosts_address_by_its_own_name(desk: Desk) -> None:
    text = desk.text("bridge.caddy")
    assert "reverse_proxy https://192.0.2.11:443 {\n" in text
    assert "header_up Host ai.home.example\n" in text
    assert "tls_server_name ai.home.example\n" in text
    assert f"tls_trusted_ca_certs {ANNAS}/certs/root-ca.pem\n" in text
    assert f"tls_client_auth {ANNAS}/certs/client.pem {ANNAS}/certs/client-key.pem\n" in text


def test_a_site_with_a_public_certificate_is_trusted_as_the_host_trusts_any(desk: Desk) -> None:
    desk.small.roles["door"]["caddy"]["sites"]["ai.home.example"]["acme"] = {"email": "anna@home.example"}
    assert "tls_trusted_ca_certs" not in desk.text("bridge.caddy")


def test_of_a_private_authority_the_root_comes_along(desk: Desk) -> None:
    acme = {"email": "anna@home.example", "directory": "https://acme.home.example/directory", "root": "acme.pem"}
    desk.small.roles["door"]["caddy"]["sites"]["ai.home.example"]["acme"] = acme
    desk.roots = {"acme.pem": "the authority's root"}
    assert desk.text("bridge-root.pem") == "the authority's root"
    assert f"tls_trusted_ca_certs {ANNAS}/bridge-root.pem\n" in desk.text("bridge.caddy")


def test_a_site_on_another_port_is_named_with_it(desk: Desk) -> None:
    desk.small.roles["door"]["caddy"]["listen"] = "0.0.0.0:8443"
    assert "header_up Host ai.home.example:8443\n" in desk.text("bridge.caddy")
    assert "reverse_proxy https://192.0.2.11:8443 {\n" in desk.text("bridge.caddy")


def test_the_key_of_the_bridge_goes_no_further(desk: Desk) -> None:
    assert "header_up -Authorization\n" in desk.text("bridge.caddy")
    assert f"file:{ANNAS}/bridge-upstream.env" not in desk.plan


def test_where_llama_server_asks_for_a_key_it_gets_its_own(desk: Desk) -> None:
    desk.small.roles["ai"]["llama_server"]["api_key"] = True
    assert 'header_up Authorization "Bearer {env.LLAMA_API_KEY}"\n' in desk.text("bridge.caddy")
    file = desk.file(f"{ANNAS}/bridge-upstream.env")
    assert (file.data.decode(), file.secret, file.group, file.mode) == (f"LLAMA_API_KEY={UPSTREAM_KEY}\n", True, "root", 0o600)
    assert f"EnvironmentFile={file.path}\n" in desk.file("/etc/systemd/system/paddock-bridge-anna.service").data.decode()


def test_what_the_server_permits_to_web_pages_is_not_passed_on(desk: Desk) -> None:
    assert "header_down -Access-Control-*\n" in desk.text("bridge.caddy")


@pytest.mark.parametrize("identity", [Certificate("renewed leaf", "key of laptop"), Certificate("leaf of laptop", "renewed key")])
def test_a_renewed_certificate_is_picked_up(desk: Desk, identity: Certificate) -> None:
    before = desk.service.started
    desk.identity = identity
    assert desk.service.started != before


def test_another_key_takes_effect(desk: Desk) -> None:
    before = desk.service.started
    desk.secrets[bridge_key_name("desk", "anna")] = "sk-another"
    assert desk.service.started != before


def test_the_key_may_be_still_to_come(desk: Desk) -> None:
    del desk.secrets[bridge_key_name("desk", "anna")]
    assert "OPENAI_API_KEY=<to be issued>\n" in desk.text("bridge.env")


def test_a_key_that_no_header_can_carry_is_refused(desk: Desk) -> None:
    desk.secrets[bridge_key_name("desk", "anna")] = 'x"} {env.HOME'
    with pytest.raises(PaddockError, match=r"the secret bridge\.desk\.anna is no key: .*`paddock secrets set bridge\.desk\.anna`"):
        _ = desk.plan


def test_each_account_has_a_bridge_and_a_key_of_its_own(desk: Desk) -> None:
    desk.accounts["bob"] = {**desk.seat, "bridge": "127.0.0.1:8398"}
    desk.secrets[bridge_key_name("desk", "bob")] = "sk-bobs"
    assert "service:paddock-bridge-bob.service" in desk.plan
    bobs = desk.file("/etc/paddock/clients/bob/bridge.env")
    assert (bobs.group, "sk-bobs" in bobs.data.decode(), KEY in bobs.data.decode()) == ("bob", True, False)


def test_caddys_own_service_is_held_back_unless_somebody_has_written_a_caddyfile(desk: Desk) -> None:
    held = desk.file("/etc/systemd/system/caddy.service.d/30-bridge.conf")
    assert "\nExecCondition=" in held.data.decode()
    assert desk.plan["package:caddy"] == Package("caddy")


def test_the_caddy_of_a_reverse_proxy_is_left_to_its_role(desk: Desk) -> None:
    newer = {"url": "https://packages.home.example/caddy.deb", "sha256": "0" * 64, "version": "2.11.4-1"}
    desk.beside = {"caddy": {"package": newer}}
    assert desk.plan["package:caddy"] == Package("caddy", "2.11.4-1", "0" * 64)
    assert "file:/etc/systemd/system/caddy.service.d/30-bridge.conf" not in desk.plan


def test_where_one_site_lets_the_client_in_nobody_has_to_say_which(desk: Desk) -> None:
    del desk.seat["site"]
    desk.small.roles["door"]["caddy"]["sites"]["ai.home.example"]["clients"] = ["phone"]
    assert "tls_server_name one.home.example\n" in desk.text("bridge.caddy")

"""The gateway as it is planned: what its service is told, what it reaches, and where no key stands."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from small_fleet import Small

from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from paddock_gateway.settings import Configuration, configuration
from resources import UNOPENED, File, Port, Resource, Service, Venv
from roles.gateway.checks import MOST_EXPOSED
from roles.gateway.plan import CONFIGURATION, ENVIRONMENT, MASTER_KEY_FILE, PEPPER_FILE, remarks
from roles.gateway.settings import PEPPER, GatewaySettings, master_key_name
from roles.host_plan import alternatives_of, doors_of, host_plan, needs_of
from roles.llama_server.settings import api_key_name
from roles.users import UNIT, user_key_name

SALT, ALICES = "pepper-of-thirty-two-letters-or-more", "sk-of-alice-and-nobody-else"
SECRETS = {
    PEPPER: SALT,
    user_key_name("alice"): ALICES,
    master_key_name("one"): "sk-of-the-master-alone",
    api_key_name("ai"): "sk-of-the-server",
}


class Fronted:
    """The small fleet with a gateway on `one`, and with users."""

    def __init__(self, host: str = "one", **settings: Any) -> None:
        self.small, self.host = Small(), host
        self.small.roles[host].pop("caddy", None)
        self.small.roles[host]["gateway"] = settings
        self.small.secrets = dict(SECRETS)
        self.users: dict[str, Any] = {}

    @property
    def fleet(self) -> Fleet:
        return Fleet.model_validate({**self.small.fleet.model_dump(exclude_unset=True), "users": self.users})

    @property
    def known(self) -> Knowledge:
        hosts = {
            name: Certificate(f"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{name}", "k") for name in self.small.roles
        }
        return replace(self.small.context, secrets=self.small.secrets, hosts=hosts)

    @property
    def plan(self) -> dict[str, Resource]:
        fleet = self.fleet
        parts = host_plan(fleet.hosts[self.host], fleet, self.known)
        return {each.id: each for part in parts.values() for each in part}

    def text(self, path: str) -> str:
        file = self.plan[f"file:{path}"]
        assert isinstance(file, File)
        return file.data.decode()

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text(CONFIGURATION))
        return found

    @property
    def unit(self) -> list[str]:
        return self.text(f"/etc/systemd/system/{UNIT}").splitlines()

    @property
    def remarks(self) -> list[str]:
        settings = self.fleet.role(self.host, "gateway", GatewaySettings)
        assert settings
        return list(remarks(self.fleet.hosts[self.host], settings, self.fleet, self.known))


EVERYTHING: dict[str, Any] = {
    "listen": ["127.0.0.1:8001", "[::1]:8001"],
    "models": {"default": {"model": "demo", "aliases": ["demo.gguf"], "limits": {"requests": 35, "parallel": 7}}},
    "default_limits": {"requests": 60},
    "global_limits": {"parallel": 14},
    "pi": {"profile": "pi5-fast", "keys_generate": ["127.0.0.0/8"]},
    "master_key": True,
    "metrics_listen": "127.0.0.1:9101",
    "metrics_by_user": True,
    "shared_system_prompt": True,
}


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_the_service_takes_what_is_written(settings: dict[str, Any], tmp_path: Path) -> None:
    fronted = Fronted(**settings)
    fronted.users = {"alice": {"models": ["demo"], "limits": {"tokens": 1000}, "expires": "2027-01-01"}}
    (tmp_path / "gateway.json").write_text(fronted.text(CONFIGURATION))
    said = configuration(tmp_path / "gateway.json")
    assert {each.name for each in said.users} == {"alice"}


def test_a_server_of_the_same_host_is_asked_by_its_socket() -> None:
    fronted = Fronted()
    assert fronted.said["backends"] == {
        "one/llama-server": {"url": "unix:/run/paddock/llama-server.sock", "key_file": "", "router": True, "models_max": 1}
    }
    assert fronted.said["models"]["demo"]["targets"] == [{"backend": "one/llama-server", "model": "demo"}]
    assert "SupplementaryGroups=paddock-callers" in fronted.unit


def test_a_server_of_another_host_is_asked_through_a_tunnel_of_the_gateways_own() -> None:
    fronted = Fronted(upstream="ai")
    assert fronted.said["backends"]["ai/llama-server"]["url"] == "unix:/run/paddock/gateway-ai.8080.sock"
    assert "service:paddock-gateway-tunnel-ai.8080.service" in fronted.plan
    (way,) = fronted.fleet.tunnels_to("ai")
    assert "one" in way.callers
    plan = host_plan(fronted.fleet.hosts["ai"], fronted.fleet, fronted.known)
    assert any(each.id == "service:paddock-http-tunnel.service" for each in plan["llama_server"])


def test_a_reverse_proxy_and_a_gateway_of_one_host_have_sockets_of_their_own() -> None:
    fronted = Fronted(upstream="ai")
    fronted.small.roles["one"]["caddy"] = {"sites": {"one.home.example": {"upstream": "ai"}}}
    files = [each.data.decode() for each in fronted.plan.values() if isinstance(each, File) and each.path.endswith(".socket")]
    assert sorted(re.findall(r"ListenStream=(/run/paddock/[a-z]+-ai\.8080\.sock)", "".join(files))) == [
        "/run/paddock/gateway-ai.8080.sock",
        "/run/paddock/hop-ai.8080.sock",
    ]


def test_what_goes_in_clear_text_is_called_at_its_address_with_its_key() -> None:
    fronted = Fronted(upstream="ai")
    fronted.small.roles["ai"]["llama_server"] |= {"encrypted": False, "api_key": True}
    assert fronted.said["backends"]["ai/llama-server"] == {
        "url": "http://192.0.2.10:8080",
        "key_file": "/etc/paddock/gateway/api-key.ai",
        "router": True,
        "models_max": 1,
    }
    assert fronted.text("/etc/paddock/gateway/api-key.ai") == "sk-of-the-server\n"


def test_a_host_stands_for_all_servers_that_it_has() -> None:
    fronted = Fronted()
    fronted.small.roles["one"]["llama_server"]["instances"] = {"code": {"model": "code", "listen": "127.0.0.1:8090", "count": 2}}
    assert list(fronted.said["backends"]) == ["one/llama-server", "one/code-1", "one/code-2"]
    assert [each["backend"] for each in fronted.said["models"]["code"]["targets"]] == ["one/code-1", "one/code-2"]


def test_the_key_of_a_declared_user_is_known_by_its_digest_alone() -> None:
    fronted = Fronted()
    fronted.users = {"alice": {}}
    (alice,) = fronted.said["users"]
    assert alice["digest"] == hmac.new(SALT.encode(), ALICES.encode(), hashlib.sha256).hexdigest()
    assert not [each for each in fronted.plan.values() if isinstance(each, File) and ALICES in each.data.decode()]


@pytest.mark.parametrize(
    ("secrets", "placeholder"),
    [({}, TO_BE_ISSUED), ({PEPPER: SALT}, TO_BE_ISSUED), ({PEPPER: UNOPENED, user_key_name("alice"): ALICES}, UNOPENED)],
)
def test_of_a_secret_that_nobody_has_there_is_no_digest(secrets: dict[str, str], placeholder: str) -> None:
    fronted = Fronted()
    fronted.users, fronted.small.secrets = {"alice": {}}, secrets
    assert fronted.said["users"][0]["digest"] == placeholder
    file = fronted.plan[f"file:{CONFIGURATION}"]
    assert isinstance(file, File) and file.is_unopened == (placeholder == UNOPENED)


def test_a_user_may_name_a_model_as_the_fleet_does() -> None:
    fronted = Fronted(models={"default": {"model": "demo"}, "writer": {"model": "code"}}, upstream="ai")
    fronted.users = {"alice": {"models": ["demo", "elsewhere"]}}
    assert fronted.said["users"][0]["models"] == ["default"]


def test_what_is_secret_is_read_by_root_and_the_gateway_alone() -> None:
    plan = Fronted(master_key=True).plan
    for path in (CONFIGURATION, PEPPER_FILE, MASTER_KEY_FILE):
        file = plan[f"file:{path}"]
        assert isinstance(file, File) and file.secret
        assert (file.owner, file.group, file.mode) == ("root", "paddock-gateway", 0o640)
    assert f"file:{MASTER_KEY_FILE}" not in Fronted().plan


def test_it_runs_from_an_environment_of_its_own_and_is_restarted_with_it() -> None:
    fronted = Fronted()
    service, environment = fronted.plan[f"service:{UNIT}"], fronted.plan[f"venv:{ENVIRONMENT}"]
    assert isinstance(service, Service) and isinstance(environment, Venv)
    assert environment in service.restarts
    assert f"ExecStart={environment.current}/bin/python -I -m paddock_gateway --configuration {CONFIGURATION} serve" in fronted.unit


def test_it_may_call_nobody_but_its_servers_where_its_callers_are_here() -> None:
    assert "IPAddressDeny=any" in Fronted().unit and "IPAddressAllow=localhost" in Fronted().unit
    assert not [line for line in Fronted(listen="0.0.0.0:8001").unit if line.startswith("IPAddress")]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
@pytest.mark.parametrize("listen", ["127.0.0.1:8001", "0.0.0.0:8001"])
def test_a_break_in_finds_little(listen: str, tmp_path: Path) -> None:
    (tmp_path / UNIT).write_text("\n".join(Fronted(listen=listen).unit) + "\n")
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(tmp_path / UNIT)],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout[-200:] + said.stderr


def test_requests_end_before_systemd_ends_it() -> None:
    assert "TimeoutStopSec=135" in Fronted(drain_s=120).unit


def test_its_tables_are_brought_up_to_date_before_the_version_that_serves_has_ended() -> None:
    """By `up` with the new version, whose environment is the one to go back from; and by each start of it, as root."""
    fronted = Fronted()
    service = fronted.plan[f"service:{UNIT}"]
    assert isinstance(service, Service)
    [prepare] = service.validate
    assert prepare.startswith(f"cd / && {ENVIRONMENT}/current/bin/python ") and prepare.endswith(" prepare")
    assert f"{ENVIRONMENT}/current" in service._kept()
    [before] = [line for line in fronted.unit if line.startswith("ExecStartPre=")]
    assert before.startswith("ExecStartPre=+/") and before.endswith(" prepare") and "TimeoutStartSec=14400" in fronted.unit


def test_it_listens_at_the_address_of_an_interface() -> None:
    fronted = Fronted(listen="tailscale0:8001")
    fronted.small.hardware = replace(fronted.small.hardware, addresses={"tailscale0": ("100.64.0.7", "fd7a::7")})
    assert fronted.said["listen"] == ["100.64.0.7:8001"]
    port = fronted.plan["port:8001/tcp"]
    assert isinstance(port, Port) and port.addresses == ("100.64.0.7",)
    fronted.small.hardware = replace(fronted.small.hardware, addresses={"eth0": ("192.0.2.12",)})
    with pytest.raises(PaddockError, match=r"no interface tailscale0 with an address: it has eth0 \(192\.0\.2\.12\)"):
        _ = fronted.plan


def test_who_may_call_it_is_the_firewalls_to_see_to() -> None:
    fronted = Fronted(listen="0.0.0.0:8001", callers=["192.0.2.0/24"])
    fronted.small.roles["one"]["firewall"] = {}
    assert "ip saddr { 192.0.2.0/24 } tcp dport 8001 accept" in fronted.text("/etc/paddock/firewall/paddock.nft")


def test_servers_behind_it_keep_no_prompts_in_memory() -> None:
    fronted = Fronted()
    assert "cache-ram = 0\n" in fronted.text("/etc/paddock/llama-server/presets.ini")
    assert "cache-ram = 0\n" not in Small().text("one", "/etc/paddock/llama-server/presets.ini")


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"cache-ram": 512}, '"cache-ram" keeps what one user has said'),
        ({"cram": -1}, '"cram" keeps what one user has said'),
        ({"cache-idle-slots": True}, '"cache-idle-slots" keeps what one user has said'),
        ({"slots": False}, "without `slots` it cannot see them"),
        ({"no-slots": True}, "without `slots` it cannot see them"),
    ],
)
def test_a_preset_that_would_mix_users_is_refused(preset: dict[str, Any], words: str) -> None:
    fronted = Fronted()
    fronted.small.models["demo"]["preset"] |= preset
    with pytest.raises(PaddockError, match=re.escape(words)):
        _ = fronted.plan


def test_a_preset_that_says_the_same_is_taken() -> None:
    fronted = Fronted()
    fronted.small.models["demo"]["preset"] |= {"cache-ram": 0, "cache-idle-slots": False, "slots": True}
    assert fronted.said["models"]["demo"]["context"] == 2048


@pytest.mark.parametrize(("preset", "context"), [({"parallel": 4}, 512), ({"parallel": 4, "kv-unified": True}, 2048), ({}, 2048)])
def test_slots_share_the_context(preset: dict[str, Any], context: int) -> None:
    fronted = Fronted()
    fronted.small.models["demo"]["preset"] |= preset
    assert fronted.said["models"]["demo"]["context"] == context


def test_an_alias_that_is_another_models_name_is_refused() -> None:
    fronted = Fronted(upstream="ai")
    fronted.small.models["code"]["aliases"] = ["demo"]
    with pytest.raises(PaddockError, match='"demo" would be code and demo: give each name to one model'):
        _ = fronted.plan


def test_the_small_hosts_api_has_its_profile_and_what_is_written_goes_before_it() -> None:
    pi = Fronted(pi={"profile": "pi5-fast", "warm_up": False}).said["pi"]
    assert pi == {"model": "demo", "max_tokens": 96, "max_concurrent": 4, "threads": 4, "residency_s": 1800, "warm_up": False}
    assert Fronted(pi={}).said["pi"]["max_tokens"] == 160
    assert "pi" not in Fronted().said


def test_nobody_makes_keys_without_one_unless_the_inventory_says_so() -> None:
    assert "keys_generate" not in Fronted(pi={}).said["pi"]
    assert Fronted(pi={"keys_generate": ["::1/128"]}).said["pi"]["keys_generate"] == {"networks": ["::1/128"]}


def test_it_waits_for_one_of_the_hosts_that_answer() -> None:
    fronted = Fronted(upstream="ai")
    fleet = fronted.fleet
    assert needs_of(fleet.hosts["one"], fleet)["gateway"] == {"ai"}
    assert "one" in doors_of(fleet)
    several = Fronted(host="door", upstream=["ai", "one"])
    several.small.roles["one"]["llama_server"]["listen"] = "0.0.0.0:8080"
    assert alternatives_of(several.fleet.hosts["door"], several.fleet)["gateway"] == ({"ai", "one"},)


def test_keys_in_clear_text_on_the_network_are_told() -> None:
    assert not Fronted().remarks
    assert "NOT ENCRYPTED: at 0.0.0.0:8001 users' keys" in Fronted(listen=["127.0.0.1:8001", "0.0.0.0:8001"]).remarks[0]
    assert not Fronted(listen="tailscale0:8001").remarks


def test_a_way_past_it_is_told() -> None:
    fronted = Fronted(upstream="ai")
    assert fronted.remarks == [
        "hosts.one.roles.gateway: the site ai.home.example leads to a server of the gateway, past its keys, limits and turns"
    ]


def test_a_site_may_lead_to_the_gateway_of_its_host() -> None:
    fronted = Fronted(listen="127.0.0.1:4000")
    fronted.small.roles["one"]["caddy"] = {"sites": {"one.home.example": {"upstream": {"gateway": "one"}}}}
    sites = fronted.text("/etc/caddy/paddock/sites.caddy")
    assert "reverse_proxy 127.0.0.1:4000 {" in sites
    assert "mode require_and_verify" in sites and "@closed" not in sites and "@listed" not in sites
    assert "Authorization" not in sites
    assert "service:paddock-model-list.service" not in fronted.plan
    assert not fronted.remarks


def test_such_a_site_needs_an_address() -> None:
    fronted = Fronted(listen="tailscale0:8001")
    fronted.small.hardware = replace(fronted.small.hardware, addresses={"tailscale0": ("100.64.0.7",)})
    fronted.small.roles["one"]["caddy"] = {"sites": {"one.home.example": {"upstream": {"gateway": "one"}}}}
    with pytest.raises(InventoryError, match="no gateway that listens on an address"):
        _ = fronted.plan


def test_its_own_database_is_a_file_and_postgres_is_reached_by_a_socket_without_a_password() -> None:
    assert Fronted().said["database"] == "sqlite:/var/lib/paddock-gateway/gateway.db"
    fronted = Fronted(database={"postgres": "one"})
    fronted.small.roles["one"]["postgres"] = {}
    assert fronted.said["database"] == "postgresql://paddock-gateway@/paddock_gateway?host=/run/postgresql"
    assert "database_password_file" not in fronted.said
    assert "After=postgresql.service paddock-postgres-gateway.service" in fronted.unit
    assert [each for each in fronted.plan if each.startswith("service:paddock-postgres")] == ["service:paddock-postgres-gateway.service"]


def test_a_pepper_that_is_too_short_is_refused() -> None:
    fronted = Fronted()
    fronted.small.secrets[PEPPER] = "short"
    with pytest.raises(PaddockError, match="the secret gateway-pepper is no key: 32 or more"):
        _ = fronted.plan


def test_every_setting_of_the_service_is_written_or_has_a_reason() -> None:
    elsewhere = {"database_password_file": "PostgreSQL is reached by its socket", "access_log": "on", "tracing": "test_gateway_traces.py"}
    its_own = {"body_s", "head_s", "stalled_s", "connections"}
    written = {*Fronted(**EVERYTHING).said, *elsewhere, *its_own}
    assert {each.name for each in msgspec.structs.fields(Configuration)} == written

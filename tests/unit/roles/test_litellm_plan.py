"""LiteLLM as it is planned: its config.yaml, who may call it, and where no key stands."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from pathlib import Path
from typing import Any

import pytest
from litellm_fleet import ALICES, MASTER, OWN_SALT, SALT, SERVERS, Fronted
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.load import load
from resources import Service, Venv
from roles.litellm.configuration import configuration, share
from roles.litellm.plan import ACCESS, CONFIGURATION, ENVIRONMENT, SECRETS, STARTS_S, UNIT, remarks
from roles.litellm.settings import VERSION, LitellmSettings
from roles.offer import offered

ROOT = Path(__file__).parents[3]


def test_a_server_of_the_same_host_is_asked_by_its_socket() -> None:
    fronted = Fronted()
    (deployment,) = fronted.said["model_list"]
    assert deployment["litellm_params"]["api_base"] == "http://llama-server.one.invalid/v1"
    assert fronted.access["sockets"] == {"llama-server.one.invalid": "/run/paddock/llama-server.sock"}
    assert "SupplementaryGroups=paddock-callers" in fronted.text(f"/etc/systemd/system/{UNIT}")


def test_a_server_of_another_host_is_asked_through_a_tunnel_of_litellms_own() -> None:
    fronted = Fronted(upstream="ai")
    assert fronted.access["sockets"] == {"llama-server.ai.invalid": "/run/paddock/litellm-ai.8080.sock"}
    assert "service:paddock-litellm-tunnel-ai.8080.service" in fronted.plan


def test_what_goes_in_clear_text_is_called_at_its_address_with_its_key() -> None:
    fronted = Fronted(upstream="ai")
    fronted.small.roles["ai"]["llama_server"] |= {"encrypted": False, "api_key": True}
    params = fronted.said["model_list"][0]["litellm_params"]
    assert (params["api_base"], params["api_key"]) == ("http://192.0.2.10:8080/v1", "os.environ/PADDOCK_KEY_API_KEY_AI")
    assert f'PADDOCK_KEY_API_KEY_AI="{SERVERS}"\n' in fronted.text(SECRETS)


def test_a_server_is_asked_whether_it_lets_in_callers_where_another_has_each_of_its_models() -> None:
    fronted = Fronted()
    assert fronted.access["replaceable"] == []
    chat = {"model": "demo", "listen": "127.0.0.1:8081", "count": 2}
    fronted.small.roles["one"]["llama_server"] = {"instances": {"chat": chat}}
    assert fronted.access["replaceable"] == ["chat-1.one.invalid", "chat-2.one.invalid"]
    fronted.small.roles["one"]["llama_server"] = {"instances": {"chat": chat}, "models": ["demo", "code"]}
    assert fronted.access["replaceable"] == ["chat-1.one.invalid", "chat-2.one.invalid"]


def test_so_is_a_server_that_is_called_at_its_address() -> None:
    fronted = Fronted(upstream=["ai", "one"])
    for name in ("ai", "one"):
        fronted.small.roles[name]["llama_server"] = {"models": ["demo"], "listen": "0.0.0.0:8080", "encrypted": False, "api_key": True}
    assert fronted.access["replaceable"] == ["192.0.2.10:8080", "llama-server.one.invalid"]


def test_secrets_stand_in_one_file_that_only_root_reads() -> None:
    fronted = Fronted()
    fronted.users = {"alice": {}}
    assert (fronted.file(SECRETS).owner, fronted.file(SECRETS).mode) == ("root", 0o600)
    for path in (CONFIGURATION, ACCESS, f"/etc/systemd/system/{UNIT}"):
        assert not any(secret in fronted.text(path) for secret in (MASTER, OWN_SALT, SALT, ALICES))


def test_a_user_is_known_by_a_digest_and_has_the_models_and_limits_that_the_inventory_says() -> None:
    fronted = Fronted(models={"fast": {"model": "demo", "aliases": ["default"]}}, default_limits={"requests": 9})
    fronted.users = {"alice": {"models": ["demo"], "expires": "2027-01-01"}}
    (alice,) = fronted.access["users"]
    assert alice["digest"] == hmac.new(SALT.encode(), ALICES.encode(), hashlib.sha256).hexdigest()
    assert alice["models"] == ["fast", "default"] and alice["rpm"] == 9 and alice["expires"] == 1798761600.0


def test_an_alias_is_the_same_model_under_another_name() -> None:
    fronted = Fronted(models={"fast": {"model": "demo", "aliases": ["default", "quick"]}})
    assert fronted.said["router_settings"]["model_group_alias"] == {"default": "fast", "quick": "fast"}
    assert [each["litellm_params"]["model"] for each in fronted.said["model_list"]] == ["openai/demo"]


def test_health_is_learned_from_requests_so_that_no_model_is_woken() -> None:
    said = Fronted(health={"failures": 2, "cooldown_s": 60, "retries": 3}).said
    assert said["general_settings"]["background_health_checks"] is False
    router = said["router_settings"]
    assert (router["allowed_fails"], router["cooldown_time"], router["num_retries"]) == (1, 60.0, 3)


@pytest.mark.parametrize(("total", "parts"), [(35, 3), (7, 7), (45, 4)])
def test_the_shares_of_a_limit_are_the_limit_together(total: int, parts: int) -> None:
    shares = [share(total, parts, number) for number in range(parts)]
    assert sum(shares) == total and max(shares) - min(shares) <= 1 and min(shares) >= 1


def test_everything_of_a_mining_rig_is_there_under_its_public_name(tmp_path: Path) -> None:
    """inventory/local-ai.yml with `litellm` in place of `gateway`."""
    text = (ROOT / "inventory" / "local-ai.yml").read_text()
    text = text.replace("      gateway:                  #", "      litellm:                  #").replace("          every_s: 15\n", "")
    text = text.replace("          picture:\n            limits:\n              parallel: 1\n", "")
    lines = [line for line in text.splitlines() if "master_key:" not in line and "langfuse: prod" not in line]
    before, _, models = "\n".join(lines).partition("      caddy:\n")
    (tmp_path / "local-ai.yml").write_text(before + models[models.index("\nmodels:") :] + "\n")
    fleet = load(tmp_path / "local-ai.yml")
    settings = fleet.role("prod", "litellm", LitellmSettings)
    assert settings
    servers = fleet.every_behind("pea")
    urls = {f"{each.host}/{each.name}": f"http://{each.name}.invalid/v1" for each in servers}
    said = configuration("prod", settings, tuple(offered("prod", settings.models, servers, fleet)), urls, fleet)
    by_name: dict[str, list[Any]] = {}
    for each in said["model_list"]:
        by_name.setdefault(each["model_name"], []).append(each)
    assert {name: len(found) for name, found in by_name.items()} == {"chat": 3, "story": 4, "embed": 7}
    assert {each["litellm_params"]["api_base"] for found in by_name.values() for each in found} == set(urls.values())
    assert [each["litellm_params"]["rpm"] for each in by_name["chat"]] == [12, 12, 11]
    assert sum(each["litellm_params"]["max_parallel_requests"] for each in by_name["embed"]) == 7
    assert {each["model_info"]["mode"] for each in by_name["embed"]} == {"embedding"}
    assert said["router_settings"]["model_group_alias"] == {"default": "chat"}
    assert said["router_settings"]["routing_strategy"] == "least-busy"
    assert said["general_settings"]["global_max_parallel_requests"] == 14


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "1.82.7"}, "was malware"),
        ({"version": "1.107.3"}, "was withdrawn"),
        ({"version": "1.110.2"}, "brings LiteLLM"),
        ({"default_limits": {"requests": 3, "window_s": 3600}}, "counts by the minute"),
        ({"models": {"a": {"aliases": ["c"]}, "b": {"aliases": ["c"]}}}, "give each name to one model"),
    ],
)
def test_what_cannot_be_is_refused_in_words(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LitellmSettings.model_validate(settings)


def test_a_server_that_keeps_what_its_callers_say_is_refused() -> None:
    fronted = Fronted()
    fronted.small.models["demo"]["preset"]["cache-ram"] = 512
    with pytest.raises(PaddockError, match="may give it to another"):
        _ = fronted.plan


def test_what_only_ranks_is_refused_and_the_gateway_named() -> None:
    fronted = Fronted()
    fronted.small.models["demo"]["preset"]["reranking"] = True
    with pytest.raises(PaddockError, match="use the role gateway"):
        _ = fronted.plan


def test_a_site_leads_to_it_beside_a_gateway() -> None:
    fronted = Fronted(listen="0.0.0.0:4001")
    fronted.small.roles["one"] |= {"gateway": {}, "caddy": {"sites": {"ai.home.example": {"upstream": {"litellm": "one"}}}}}
    text = fronted.text("/etc/caddy/paddock/sites.caddy")
    assert "reverse_proxy 127.0.0.1:4001 {" in text and "keepalive off" in text
    assert "8001" not in text and "@closed" not in text


def test_the_network_is_told_that_keys_go_in_clear_text() -> None:
    fronted = Fronted(listen="192.0.2.12:4000")
    settings = fronted.fleet.role("one", "litellm", LitellmSettings)
    assert settings
    (remark,) = remarks(fronted.fleet.hosts["one"], settings, fronted.fleet, fronted.known)
    assert "NOT ENCRYPTED" in remark


def test_another_alias_restarts_litellm_and_nothing_else() -> None:
    before, after = Fronted().plan, Fronted(models={"demo": {"aliases": ["default"]}}).plan
    changed = {name for name, each in after.items() if before.get(name) != each}
    noted = f"file:/etc/systemd/system/{UNIT}.d/50-paddock.conf"
    assert changed == {f"file:{CONFIGURATION}", noted, f"service:{UNIT}"}
    assert isinstance(after[f"service:{UNIT}"], Service)


def test_it_has_the_time_to_import_before_it_listens() -> None:
    service = Fronted().plan[f"service:{UNIT}"]
    assert isinstance(service, Service) and service.ready_timeout_s == service.answer_timeout_s == STARTS_S


def test_it_runs_in_an_environment_of_its_own_beside_a_gateways() -> None:
    fronted = Fronted()
    fronted.small.roles["one"]["gateway"] = {}
    assert isinstance(fronted.plan[f"venv:{ENVIRONMENT}"], Venv)
    assert isinstance(fronted.plan["venv:/opt/paddock/gateway"], Venv)


def test_the_version_is_the_one_that_is_locked() -> None:
    lock = tomllib.loads((ROOT / "services" / "litellm" / "pylock.toml").read_text())
    assert next(each["version"] for each in lock["packages"] if each["name"] == "litellm") == VERSION

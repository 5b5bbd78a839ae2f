"""A site over several servers: who is behind it, how each is reached, and what depends on there being one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_fleet import SERVING, Small

from cli.views.chat_line import chat_line
from resources import Port
from roles.caddy.plan import needs, needs_one_of, remarks
from roles.caddy.settings import CaddySettings, Site
from roles.host_plan import alternatives_of, needs_of

SITES = "/etc/caddy/paddock/sites.caddy"
LIST = "/etc/systemd/system/paddock-model-list.service"
FIRST = "reverse_proxy unix//run/paddock/hop-ai.8080.sock unix//run/paddock/hop-two.8080.sock {\n"


@pytest.fixture
def several(small: Small) -> Small:
    """`ai` and `two` serve `demo` and `code`, `rig` has instances, and the site of `door` leads to the first two."""
    small.roles["two"] = {**SERVING, "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo", "code"]}}
    chat = {"model": "demo", "listen": "0.0.0.0:8080", "count": 2}
    small.roles["rig"] = {**SERVING, "llama_server": {"instances": {"chat": chat, "embed": {"model": "code", "listen": "0.0.0.0:8090"}}}}
    small.groups = {"big": ("ai", "two", "door"), "mixed": ("rig", "ai"), "ai": ("two",)}
    lead(small, ("ai", "two"))
    return small


def lead(small: Small, upstream: object) -> None:
    small.roles["door"]["caddy"]["sites"]["ai.home.example"]["upstream"] = upstream


def behind(small: Small, upstream: Any) -> list[str]:
    return [f"{each.host}/{each.name}" for each in small.fleet.behind(Site(upstream=upstream).upstream)]


def settings(small: Small) -> CaddySettings:
    found = small.fleet.role("door", "caddy", CaddySettings)
    assert found
    return found


@pytest.mark.parametrize(
    ("upstream", "servers"),
    [
        ("ai", ["ai/llama-server"]),
        ("rig/chat", ["rig/chat-1", "rig/chat-2"]),
        (("ai", "rig/chat"), ["ai/llama-server", "rig/chat-1", "rig/chat-2"]),
        ("big", ["ai/llama-server", "two/llama-server"]),
        (("big", "two"), ["ai/llama-server", "two/llama-server"]),
        ("mixed/chat", ["rig/chat-1", "rig/chat-2"]),
        ({"model": "code"}, ["ai/llama-server", "two/llama-server", "rig/embed"]),
        ("nobody", []),
    ],
)
def test_a_host_a_group_a_list_and_a_model_each_stand_for_servers(several: Small, upstream: object, servers: list[str]) -> None:
    assert behind(several, upstream) == servers


def test_a_host_goes_before_a_group_of_its_name(several: Small) -> None:
    assert several.fleet.hosts["two"].groups == ("big", "ai")
    assert behind(several, "ai") == ["ai/llama-server"]


def test_a_request_goes_to_a_server_that_says_that_it_is_ready_and_to_no_other(several: Small) -> None:
    text = several.text("door", SITES)
    assert text.count(FIRST) == 2  # once more where one has said that it is not
    for line in (
        "method HEAD",
        "rewrite /health",
        "health_uri /health",
        "fail_duration 3s",
        "unhealthy_status 5xx",
        "lb_policy least_conn",
    ):
        assert text.count(f"\t{line}\n") == 2, line
    assert text.count("reverse_proxy {http.reverse_proxy.upstream.address} {\n") == 2
    assert "buffer" not in text


def test_where_no_server_is_ready_the_answer_is_whole(several: Small) -> None:
    """That of a server is one to HEAD: a client would wait for what its length promises."""
    text = several.text("door", SITES)
    assert text.count("\thandle_response @ready {\n") == text.count("\thandle_response {\n") == 2
    assert text.count("No server is ready yet: ask again later.") == 1


def test_pages_of_other_origins_find_the_header_once_whichever_server_answers(several: Small) -> None:
    several.roles["door"]["caddy"]["sites"]["ai.home.example"]["origins"] = ["https://chat.home.example"]
    text = several.text("door", SITES)
    assert text.count("header_down -Access-Control-Allow-Origin\n") == 3  # two tries, and the model list
    assert text.count("header_up -Origin\n") == 5  # and who is only asked whether it is ready


def test_servers_of_one_host_stand_in_for_each_other_too(several: Small) -> None:
    lead(several, "rig/chat")
    assert several.text("door", SITES).count("health_uri /health\n") == 2


def test_one_server_is_asked_without_more_ado(several: Small) -> None:
    lead(several, "ai")
    text = several.text("door", SITES)
    assert "\t\t\treverse_proxy unix//run/paddock/hop-ai.8080.sock {\n\t\t\t\theader_up -X-Paddock-Client\n" in text
    assert not [word for word in ("health_uri", "lb_policy", "HEAD\n\t\t\t\trewrite", "handle_response") if word in text]


def test_tunnels_clear_text_and_sockets_mix_in_one_site(several: Small) -> None:
    several.roles["two"]["llama_server"]["encrypted"] = False
    several.roles["door"] |= {**SERVING, "llama_server": {"models": ["demo"]}}
    lead(several, ("ai", "two", "door"))
    at = "unix//run/paddock/hop-ai.8080.sock 192.0.2.13:8080 unix//run/paddock/llama-server.sock"
    assert f"reverse_proxy {at} {{\n" in several.text("door", SITES)
    assert [way.host for way, _ in tunnels(several)] == ["ai"]


def tunnels(small: Small) -> list[tuple[Any, str]]:
    from roles.caddy.plan import _tunnels

    return list(_tunnels(small.fleet.hosts["door"], settings(small), small.fleet))


def test_each_host_behind_a_site_lets_its_proxy_in(several: Small) -> None:
    several.roles["two"]["llama_server"]["encrypted"] = False
    assert (several.fleet.callers("ai"), several.fleet.callers("two"), several.fleet.callers("rig")) == (("door",), ("door",), ())
    port = several.plan("two")["port:8080/tcp"]
    assert isinstance(port, Port) and port.reachable_from == ("door",)


def test_no_admin_endpoint_is_behind_a_site_over_several_hosts(several: Small) -> None:
    several.administrators = ("laptop",)
    several.roles["ai"]["admin"] = {"listen": "0.0.0.0:8079"}
    assert "This site leads to several hosts: ask one that leads to one of them." in several.text("door", SITES)
    assert "file:/etc/caddy/paddock/ai.admin" not in several.plan("door")
    assert [way.port for way, _ in tunnels(several)] == [8080, 8080]
    assert several.fleet.callers_of_admin("ai") == ()
    several.roles["door"]["caddy"]["sites"]["one.home.example"] = {"upstream": "ai"}
    several.roles["one"]["caddy"]["sites"] = {}
    assert "file:/etc/caddy/paddock/ai.admin" in several.plan("door")
    assert [way.port for way, _ in tunnels(several)] == [8080, 8079, 8080]
    assert several.fleet.callers_of_admin("ai") == ("door",)


def test_it_waits_for_one_of_its_hosts_and_for_each_that_stands_alone(several: Small) -> None:
    several.roles["door"]["caddy"]["sites"]["one.home.example"] = {"upstream": "one"}
    several.roles["one"]["caddy"]["sites"] = {}
    door, fleet = several.fleet.hosts["door"], several.fleet
    assert list(needs(door, settings(several), fleet)) == ["one"]
    assert list(needs_one_of(door, settings(several), fleet)) == [("ai", "two")]
    assert needs_of(door, fleet)["caddy"] == {"one"}
    assert alternatives_of(door, fleet)["caddy"] == (frozenset({"ai", "two"}),)


def test_a_model_that_only_some_have_is_told_of(several: Small) -> None:
    several.roles["two"]["llama_server"]["models"] = ["demo"]
    found = [each for each in remarks(several.fleet.hosts["door"], settings(several), several.fleet, several.context) if "sites" in each]
    assert found == [
        "hosts.door.roles.caddy.sites.ai.home.example: "
        'requests for "code" fail where two gets them, which lacks it: a site may lead to any of its servers'
    ]
    lead(several, {"model": "code"})
    several.roles["two"]["llama_server"]["models"] = ["code", "demo"]
    found = [each for each in remarks(several.fleet.hosts["door"], settings(several), several.fleet, several.context) if "sites" in each]
    assert found == [
        "hosts.door.roles.caddy.sites.ai.home.example: "
        'requests for "demo" fail, or are answered by another model, where rig/embed gets them, which lacks it: '
        "a site may lead to any of its servers"
    ]
    lead(several, ("ai", "two"))
    assert not [each for each in remarks(several.fleet.hosts["door"], settings(several), several.fleet, several.context) if "sites" in each]


@pytest.mark.parametrize(("upstream", "model"), [(("rig/embed", "ai"), "code"), ({"model": "code"}, "code"), ("ai", "demo")])
def test_whoever_is_told_how_to_chat_asks_for_a_model_that_every_server_has(several: Small, upstream: object, model: str) -> None:
    lead(several, upstream)
    entrance = several.fleet.entrances()[0]
    line = chat_line(entrance, several.fleet.behind(entrance.site.upstream)[0], Path("/c"), several.fleet)
    assert f'"model": "{model}"' in line


def test_the_model_list_may_ask_every_server_of_a_site(several: Small) -> None:
    several.roles["two"]["llama_server"]["encrypted"] = False
    asked = "unix//run/paddock/hop-ai.8080.sock,192.0.2.13:8080"
    assert f"header_up X-Paddock-Upstream {asked}\n" in several.text("door", SITES)
    unit = several.text("door", LIST)
    assert "IPAddressAllow=192.0.2.13\n" in unit and "SupplementaryGroups=paddock-callers\n" in unit and "TasksMax=384\n" in unit
    lead(several, "ai")
    assert "TasksMax=128\n" in several.text("door", LIST)


def test_pi_is_offered_the_models_of_all_servers_with_the_least_context_of_any(several: Small) -> None:
    from roles.client.pi import _models

    several.roles["two"]["llama_server"]["preset"] = {"ctx-size": 1024}
    several.models["demo"] = {}
    found = {each["id"]: each["contextWindow"] for each in _models(several.fleet.behind(("ai", "two")), several.fleet, several.context)}
    assert json.dumps(found) == '{"demo": 1024, "code": 1024}'


def test_who_asks_while_all_servers_start_anew_waits_as_long_as_for_one_of_them(several: Small) -> None:
    several.roles["two"]["llama_server"]["wait_s"] = 300
    assert several.text("door", SITES).count("\tlb_try_duration 300s\n") == 2

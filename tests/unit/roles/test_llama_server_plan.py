"""The router's unit and presets, and what a restart is due for."""

from typing import Any

import pytest
from small_fleet import Small

from inventory.errors import InventoryError, PaddockError
from inventory.options import SHIPPED, Options, read
from resources import Port, Service
from roles.llama_server.plan import PRESETS, remarks
from roles.llama_server.settings import LlamaServerSettings

UNIT = "/etc/systemd/system/llama-server.service"


def started(small: Small) -> str:
    service = small.plan("ai")["service:llama-server.service"]
    assert isinstance(service, Service)
    return service.started


def test_every_model_has_a_section_with_its_file_and_its_options(small: Small) -> None:
    small.models["demo"] = {"preset": {"ctx-size": 2048, "temp": 0.7, "jinja": True, "cache-type-k": "q8_0"}}
    section = small.text("ai", PRESETS).partition("[demo]\n")[2].partition("\n\n")[0]
    assert section.splitlines() == [
        "model = /var/lib/paddock/models/demo.gguf",
        "ctx-size = 2048",
        "temp = 0.7",
        "jinja = true",
        "cache-type-k = q8_0",
    ]


def test_models_stand_in_the_order_of_the_server_and_not_of_the_fleet(small: Small) -> None:
    small.models = dict(reversed(small.models.items()))
    text = small.text("ai", PRESETS)
    assert text.index("[*]") < text.index("[demo]") < text.index("[code]")


def test_options_for_all_models_go_before_our_own(small: Small) -> None:
    small.roles["ai"]["llama_server"]["preset"] = {"cache-ram": 256, "metrics": False}
    assert "[*]\ncache-ram = 256\nmetrics = false\n" in small.text("ai", PRESETS)


def test_the_prompt_caches_of_all_loaded_models_take_an_eighth_of_the_memory(small: Small) -> None:
    assert "cache-ram = 2048\n" in small.text("ai", PRESETS)
    small.roles["ai"]["llama_server"]["models_max"] = 0
    assert "cache-ram = 1024\n" in small.text("ai", PRESETS)


def test_and_no_more_than_an_eighth_of_what_systemd_lets_a_server_have(small: Small) -> None:
    chat = {"model": "demo", "listen": "127.0.0.1:8081", "memory_max": "2G"}
    instances = {"chat": chat, "code": {**chat, "listen": "127.0.0.1:8082", "memory_max": "1T"}}
    small.roles["ai"]["llama_server"] |= {"memory_max": "8G", "models_max": 2, "instances": instances}
    assert "cache-ram = 512\n" in small.text("ai", PRESETS)
    assert "--cache-ram 256 " in small.text("ai", UNIT.replace(".service", "-chat.service"))
    assert "--cache-ram 682 " in small.text("ai", UNIT.replace(".service", "-code.service"))


def test_no_preset_is_indented_for_llama_cpp_would_refuse_the_file(small: Small) -> None:
    assert not [line for line in small.text("ai", PRESETS).splitlines() if line != line.strip()]


def test_the_command_line_carries_no_option_of_a_model(small: Small) -> None:
    small.roles["ai"]["llama_server"]["preset"] = {"ctx-size": 8192, "gpu-layers": 99}
    assert "ctx-size" not in small.text("ai", UNIT)
    assert "gpu-layers" not in small.text("ai", UNIT)


@pytest.mark.parametrize("options", [None, read(SHIPPED.read_text())])
def test_a_router_takes_from_its_preset_how_it_answers_requests_and_its_models_have_the_rest(small: Small, options: Options | None) -> None:
    small.options = options
    small.roles["ai"]["llama_server"]["preset"] = {"timeout": 7200, "threads-http": 8, "cors-methods": "GET", "ctx-size": 512}
    for line in ("--timeout 7200", "--threads-http 8", "--cors-methods GET"):
        assert f"\n    {line} \\\n" in small.text("ai", UNIT)
    assert small.text("ai", PRESETS).partition("\n\n")[0].endswith("[*]\ncache-ram = 2048\nmetrics = true\nctx-size = 512")


def test_a_list_is_one_value_of_a_preset_file(small: Small) -> None:
    small.models["demo"]["preset"] = {"lora": ["/srv/a.gguf", "/srv/b.gguf"], "tensor-split": [3, 1]}
    assert "\nlora = /srv/a.gguf,/srv/b.gguf\ntensor-split = 3,1\n" in small.text("ai", PRESETS)


def test_what_a_preset_file_would_cut_lands_in_none(small: Small) -> None:
    small.models["demo"]["preset"] = {"samplers": "top_k;min_p"}
    with pytest.raises(PaddockError, match=r'^models\.demo\.preset\.samplers: has ";" in it, where .* would cut the value: .* an instance'):
        small.plan("ai")


def test_autoload_is_off_only_where_it_is_said_to_be(small: Small) -> None:
    assert "--no-models-autoload" not in small.text("ai", UNIT)
    small.roles["ai"]["llama_server"]["autoload"] = False
    assert "--no-models-autoload" in small.text("ai", UNIT)


def test_a_server_is_in_a_network_of_its_own_wherever_it_is_called(small: Small) -> None:
    for host in ("one", "ai"):
        assert "PrivateNetwork=yes\n" in small.text(host, UNIT) and "IPAddressDeny=any\n" in small.text(host, UNIT)
    small.models["demo"]["preset"]["rpc"] = "192.0.2.7:50052"
    text = small.text("ai", UNIT)
    assert "PrivateNetwork" not in text and "IPAddressDeny=any\nIPAddressAllow=localhost 192.0.2.7\n" in text


def test_a_server_connects_to_others_where_the_inventory_says_so_and_plan_says_it_aloud(small: Small) -> None:
    assert not list(remarked(small))
    small.roles["ai"]["llama_server"]["egress"] = True
    text = small.text("ai", UNIT)
    assert "PrivateNetwork" not in text and "IPAddress" not in text
    (line,) = remarked(small)
    assert line.startswith("hosts.ai.roles.llama_server: `egress` lets its servers connect to any machine")


def remarked(small: Small) -> list[str]:
    settings = small.fleet.role("ai", "llama_server", LlamaServerSettings)
    assert settings
    return [line for line in remarks(small.fleet.hosts["ai"], settings, small.fleet, small.context) if "egress" in line]


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.10:80"])
def test_systemd_has_its_port_and_the_server_a_unix_socket(small: Small, listen: str) -> None:
    small.roles["ai"]["llama_server"] |= {"listen": listen, "encrypted": False}
    plan = small.plan("ai")
    held, server = plan["service:paddock-proxy-llama-server.socket"], plan["service:llama-server.service"]
    assert isinstance(held, Service) and isinstance(server, Service)
    assert [(each.number, each.unit) for each in held.ports] == [(int(listen.rpartition(":")[2]), held.name)] and server.ports == ()
    socket = small.text("ai", "/etc/systemd/system/paddock-proxy-llama-server.socket")
    assert f"ListenStream={listen}\n" in socket
    assert "ListenStream=/run/paddock/llama-server.sock\nSocketGroup=paddock-callers\nSocketMode=0660\n" in socket
    proxy = small.text("ai", "/etc/systemd/system/paddock-proxy-llama-server.service")
    assert "ExecStart=/usr/sbin/haproxy -Ws -f /etc/paddock/llama-server/paddock-proxy-llama-server.cfg\n" in proxy
    assert [each.id for each in held.restarts] == ["file:/etc/systemd/system/paddock-proxy-llama-server.socket"]
    text = small.text("ai", UNIT)
    assert "--host /run/llama-server/llama-server/http.sock --port" in text and "RuntimeDirectory=llama-server/llama-server\n" in text


def test_who_asks_while_a_server_starts_anew_waits_in_haproxy_and_another_wait_restarts_nothing(small: Small) -> None:
    path = "/etc/paddock/llama-server/paddock-proxy-llama-server.cfg"
    assert "  retries 120\n" in small.text("ai", path)
    before, proxy = small.plan("ai"), "service:paddock-proxy-llama-server.service"
    small.roles["ai"]["llama_server"] |= {"wait_s": 300}
    after = small.plan("ai")
    assert "  retries 300\n" in small.text("ai", path)
    assert {name for name in after if after[name].desired != before[name].desired} - {f"file:{path}"} == {
        proxy,
        "file:/etc/systemd/system/paddock-proxy-llama-server.service.d/50-paddock.conf",
    }
    assert [each.desired["started"] for each in (before[proxy], after[proxy])] == [before[proxy].desired["started"]] * 2


def test_whoever_stops_a_server_it_ends_what_it_answers_first_and_a_start_warms_it_up(small: Small) -> None:
    small.roles["ai"]["llama_server"] |= {"drain_s": 30, "wait_s": 50}
    server, unit = small.plan("ai")["service:llama-server.service"], small.text("ai", UNIT)
    assert isinstance(server, Service) and server.drains
    figures, own = "/run/paddock-proxy-llama-server/figures.sock", "/run/llama-server/llama-server /run/paddock/loaded-llama-server"
    assert (
        f"\nExecStop=-+/bin/sh /etc/paddock/llama-server/callers.sh drain {own} {figures} 30 router\n" in unit
        and "\nTimeoutStopSec=75\n" in unit
    )
    assert f"\nExecStartPost=-+/bin/sh /etc/paddock/llama-server/callers.sh admit {own} 25 router chat=" in unit
    haproxy = small.text("ai", "/etc/paddock/llama-server/paddock-proxy-llama-server.cfg")
    assert f"  bind unix@{figures} mode 600\n" in haproxy
    assert "  server main unix@/run/llama-server/llama-server/open.sock check" in haproxy


def test_an_accounts_own_server_holds_its_port_itself(small: Small) -> None:
    small.roles["ai"]["llama_server"]["user"] = "ann"
    service = small.plan("ai")["service:ann/llama-server.service"]
    assert isinstance(service, Service) and [each.unit for each in service.ports] == ["llama-server.service"]
    assert not any("paddock-proxy" in name for name in small.plan("ai"))


def test_a_model_in_a_home_directory_is_shown_to_the_server_and_nothing_else_there(small: Small) -> None:
    small.models["demo"] = {"source": {"path": "/home/me/my models/50%q4.gguf", "sha256": "0" * 64}}
    text = small.text("ai", UNIT)
    assert "ProtectHome=tmpfs\n" in text
    assert 'BindReadOnlyPaths="-/home/me/my models/50%%q4.gguf"\n' in text


def test_another_preset_another_release_and_another_model_file_each_ask_for_a_restart(small: Small) -> None:
    seen = {started(small)}
    small.models["demo"]["preset"]["ctx-size"] = 4096
    seen.add(started(small))
    small.roles["ai"]["llama_cpp"] = {"source": {"sdist": "llama-cpp-python==0.3.35", "sha256": "aa" * 32}}
    seen.add(started(small))
    small.models["demo"]["source"] = {"url": "https://models.home.example/demo.gguf", "sha256": "1" * 64}
    seen.add(started(small))
    assert len(seen) == 4


def test_more_clients_ask_for_no_restart_of_the_server(small: Small) -> None:
    before = started(small)
    small.active = ["laptop"]
    assert started(small) == before


@pytest.mark.parametrize(
    ("listen", "loopback", "network"),
    [
        ("0.0.0.0:8080", "127.0.0.1:8080", "192.0.2.10:8080"),
        ("192.0.2.11:8080", "127.0.0.1:8080", "192.0.2.11:8080"),
        ("[2001:db8::10]:8080", "[::1]:8080", "[2001:db8::10]:8080"),
    ],
)
def test_what_other_hosts_call_is_a_tunnel_and_the_server_has_loopback(small: Small, listen: str, loopback: str, network: str) -> None:
    small.roles["ai"]["llama_server"]["listen"] = listen
    assert f"ListenStream={loopback}\n" in small.text("ai", "/etc/systemd/system/paddock-proxy-llama-server.socket")
    assert f"ListenStream={network}\n" in small.text("ai", "/etc/systemd/system/paddock-http-tunnel.socket")
    configuration = small.text("ai", "/etc/paddock/http-tunnel/tunnel.cfg")
    assert "# peers: door\nlisten ai.8080\n  bind fd@3 ssl " in configuration and " verify required " in configuration
    assert "-f /etc/paddock/http-tunnel/ai.8080.pins }\n  mode http\n" in configuration
    assert "  server ai.8080 unix@/run/paddock/llama-server.sock\n" in configuration
    assert f"  server ai.8080 {network} ssl " in small.text("door", "/etc/paddock/caddy-tunnel/ai.8080.cfg")
    ports = [each for each in small.plan("ai").values() if isinstance(each, Port)]
    assert {each.unit for each in ports if each.shared} == {"paddock-proxy-llama-server.socket", "paddock-http-tunnel.socket"}


def test_a_host_whose_address_is_a_name_says_where_its_tunnel_listens(small: Small) -> None:
    small.addresses["ai"] = "ai.home.example"
    words = r"hosts\.ai\.roles\.llama_server\.listen: 0\.0\.0\.0:8080 is to be encrypted, and .* is a name: write"
    with pytest.raises(InventoryError, match=words):
        small.plan("ai")


@pytest.mark.parametrize(
    ("change", "why"),
    [({"encrypted": False}, "(`encrypted: false` says so)"), ({"user": "ann"}, "(services of the account ann cannot have a tunnel)")],
)
def test_what_is_clear_text_on_the_network_is_told(small: Small, change: dict[str, Any], why: str) -> None:
    def told() -> list[str]:
        settings = small.fleet.role("ai", "llama_server", LlamaServerSettings)
        assert settings
        return [each for each in remarks(small.fleet.hosts["ai"], settings, small.fleet, small.context) if "NOT ENCRYPTED" in each]

    assert not told()
    small.roles["ai"]["llama_server"] |= change
    (line,) = told()
    assert line.startswith("hosts.ai.roles.llama_server: NOT ENCRYPTED: what door asks and gets is clear text") and line.endswith(why)


def test_nobody_calls_a_server_of_a_fleet_without_another_reverse_proxy_and_it_has_no_tunnel(small: Small) -> None:
    del small.roles["door"]["caddy"]
    assert not [name for name in small.plan("ai") if "tunnel" in name]

"""Prometheus as it is planned: what it reads and what it leaves alone, who reaches it, and where keys stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from inventory.errors import InventoryError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import File, Port, Service
from roles.host_plan import faults_of, host_plan, remarks_of
from roles.llama_server.settings import api_key_name
from roles.prometheus.checks import _down
from roles.prometheus.configuration import CONFIGURATION, RULES, declared_alertmanagers, declared_alerts, key_file
from roles.prometheus.rules import RULES as ALERTS
from roles.prometheus.settings import UNIT
from tests.alert_cases import CASES
from tests.wheel import ROOT

KEY = "sk-of-the-server-and-of-nobody-else"
GATEWAY = {"upstream": "box/chat", "metrics_listen": "0.0.0.0:9101"}
WATCHED: dict[str, Any] = {"firewall": {}, "alertmanager": {}}
NOT_TOLD = {"leave_out": ["box/alertmanager"]}


def fleet(
    *,
    prometheus: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    gateway: Mapping[str, Any] | None = None,
    exporter: str = "0.0.0.0:9100",
    preset: Mapping[str, Any] | None = None,
    networks: tuple[str, ...] = (),
    at: str = "box",
) -> Fleet:
    """`box` serves, `far` has a gateway before it; Prometheus is on one of the two."""
    served = {"listen": "0.0.0.0:8080", "instances": {"chat": {"model": "small", "listen": "0.0.0.0:8081"}}, **(server or {})}
    roles: dict[str, dict[str, Any]] = {
        "box": {
            "llama_cpp": {},
            "models": {},
            "llama_server": served,
            "node_exporter": {"listen": exporter},
            "firewall": {},
            "alertmanager": {},
        },
        "far": {"gateway": GATEWAY if gateway is None else gateway, "node_exporter": {"listen": exporter}, "firewall": {}},
    }
    roles[at]["prometheus"] = prometheus or {}
    document = {
        "name": "home",
        "domain": "home.example",
        "networks": networks,
        "hosts": {name: {"name": name, "address": f"192.0.2.{10 + n}", "roles": said} for n, (name, said) in enumerate(roles.items())},
        "models": {"small": {"preset": preset or {}}},
    }
    return Fleet.model_validate(document)


def planned(said: Fleet, host: str = "box", role: str = "prometheus") -> dict[str, Any]:
    known = Knowledge(secrets={api_key_name("box"): KEY})
    return {each.id: each for each in host_plan(said.hosts[host], said, known)[role]}


def text(found: Mapping[str, Any], path: str) -> str:
    file = found[f"file:{path}"]
    assert isinstance(file, File)
    return file.data.decode()


def read(said: Fleet, host: str = "box") -> dict[str, str]:
    """By service where it is read."""
    pools = yaml.safe_load(text(planned(said, host), CONFIGURATION))["scrape_configs"]
    pages = [each for pool in pools for each in pool["static_configs"]]
    return {f"{each['labels']['host']}/{each['labels']['service']}": each["targets"][0] for each in pages}


def test_every_host_gateway_and_llama_server_is_read_where_the_reader_reaches_it() -> None:
    assert read(fleet()) == {
        "box/alertmanager": "127.0.0.1:9093",
        "box/prometheus": "127.0.0.1:9090",
        "box/node_exporter": "127.0.0.1:9100",
        "box/chat": "127.0.0.1:8081",
        "far/gateway": "192.0.2.11:9101",
        "far/node_exporter": "192.0.2.11:9100",
    }


def test_a_reading_says_whose_it_is() -> None:
    pools = yaml.safe_load(text(planned(fleet()), CONFIGURATION))["scrape_configs"]
    (chat,) = (each["labels"] for pool in pools for each in pool["static_configs"] if each["labels"]["service"] == "chat")
    assert chat == {"job": "llama_server", "host": "box", "service": "chat", "model": "small"}


@pytest.mark.parametrize(
    ("preset", "why"),
    [
        ({"sleep-idle-seconds": 60}, "a reading would keep its model from falling asleep"),
        ({"metrics": False}, "its preset has `metrics` off"),
    ],
)
def test_a_server_that_a_reading_would_disturb_or_that_has_none_is_left_alone(preset: dict[str, Any], why: str) -> None:
    said = fleet(preset=preset)
    assert "box/chat" not in read(said)
    assert f"hosts.box.roles.prometheus: box/chat is not watched: {why}" in [*remarks_of(said.hosts["box"], said, Knowledge())]


def test_a_router_is_left_alone_for_a_reading_could_wake_a_model() -> None:
    said = fleet(server={"models": ["small"]})
    assert "box/router" not in read(said) and "box/chat" in read(said)
    lines = [line for line in remarks_of(said.hosts["box"], said, Knowledge()) if "not watched" in line]
    assert len(lines) == 1 and "wake a model of a router" in lines[0]


def test_a_server_that_others_reach_by_a_tunnel_alone_is_not_called_past_it() -> None:
    said = fleet(at="far", prometheus=NOT_TOLD)
    assert "box/chat" not in read(said, "far")
    assert any("encrypted tunnel" in line for line in remarks_of(said.hosts["far"], said, Knowledge()))


def test_a_server_whose_port_is_clear_text_by_the_inventory_is_read_from_another_host_and_lets_it_in() -> None:
    said = fleet(at="far", server={"encrypted": False}, prometheus=NOT_TOLD)
    assert read(said, "far")["box/chat"] == "192.0.2.10:8081"
    assert planned(said, "box", "llama_server")["port:8081/tcp"].reachable_from == ("far",)


def test_what_cannot_be_read_is_refused_with_what_to_set() -> None:
    said = fleet(exporter="127.0.0.1:9100", gateway={"upstream": "box/chat"})
    with pytest.raises(InventoryError) as refused:
        planned(said)
    gateway, exporter = refused.value.problems
    assert "far/gateway cannot be scraped" in gateway and "set hosts.far.roles.gateway.metrics_listen" in gateway
    assert "far/node_exporter cannot be scraped: it listens on loopback, 127.0.0.1:9100" in exporter
    assert "set hosts.far.roles.node_exporter.listen, for example 0.0.0.0:9100" in exporter
    assert [each.words for each in faults_of(said.hosts["box"], said, Knowledge())] == [gateway, exporter]


def test_what_is_left_out_is_neither_read_nor_refused() -> None:
    said = fleet(exporter="127.0.0.1:9100", gateway={"upstream": "box/chat"}, prometheus={"leave_out": ["far", "box/chat"]})
    assert set(read(said)) == {"box/prometheus", "box/alertmanager", "box/node_exporter"}


def test_metrics_do_not_leave_the_networks_of_the_fleet() -> None:
    assert read(fleet(networks=("192.0.2.0/24",)))
    with pytest.raises(InventoryError, match=r"192\.0\.2\.11 is in none of the fleet's networks"):
        planned(fleet(networks=("192.0.2.10/32",)))


def test_the_firewall_lets_prometheus_alone_in_to_metrics() -> None:
    said = fleet()
    assert planned(said, "far", "gateway")["port:9101/tcp"].reachable_from == ("box",)
    assert planned(said, "far", "node_exporter")["port:9100/tcp"].reachable_from == ("box",)
    assert planned(said, "far", "gateway")["port:8001/tcp"].reachable_from is None
    own = planned(fleet(prometheus={"listen": "0.0.0.0:9099"}))["port:9099/tcp"]
    assert isinstance(own, Port) and own.reachable_from == ()


def test_who_calls_a_gateway_reaches_its_metrics_beside_prometheus_and_prometheus_nothing_else() -> None:
    ports = planned(fleet(gateway={**GATEWAY, "callers": ["192.0.2.64/26"]}), "far", "gateway")
    assert ports["port:9101/tcp"].reachable_from == ("192.0.2.64/26", "box")
    assert ports["port:8001/tcp"].reachable_from == ("192.0.2.64/26",)


def test_a_key_stands_in_a_file_that_prometheus_alone_reads_and_nowhere_else() -> None:
    found = planned(fleet(server={"api_key": True}))
    key = found[f"file:{key_file(api_key_name('box'))}"]
    assert (key.content, key.owner, key.mode, key.secret) == (f"{KEY}\n", "prometheus", 0o600, True)
    assert all(KEY not in each.data.decode() for each in found.values() if isinstance(each, File) and each != key)
    (pool,) = (each for each in yaml.safe_load(text(found, CONFIGURATION))["scrape_configs"] if "authorization" in each)
    assert pool["authorization"] == {"credentials_file": key.path} and pool["follow_redirects"] is False


def test_another_target_is_a_reload_and_another_retention_a_restart() -> None:
    before, other, longer = (
        planned(said)[f"service:{UNIT}"]
        for said in (fleet(), fleet(prometheus={"leave_out": ["far"]}), fleet(prometheus={"retention_days": 90}))
    )
    assert isinstance(before, Service) and isinstance(other, Service) and isinstance(longer, Service)
    assert (before.started == other.started, before.loaded == other.loaded) == (True, False)
    assert (before.started == longer.started, before.loaded == longer.loaded) == (False, True)


def test_only_what_the_fleet_has_is_alerted_on() -> None:
    alerts = declared_alerts(
        text(planned(fleet(prometheus={"leave_out": ["far", "box/chat", "box/node_exporter", "box/alertmanager"]})), RULES)
    )
    assert alerts == ["ServiceDown", "ConfigurationRefused"]
    assert declared_alerts(text(planned(fleet()), RULES)) == [each.name for each in ALERTS]


def test_alerts_go_to_the_alertmanagers_that_are_read() -> None:
    assert declared_alertmanagers(text(planned(fleet()), CONFIGURATION)) == ["127.0.0.1:9093"]
    assert declared_alertmanagers(text(planned(fleet(prometheus={"leave_out": ["box/alertmanager"]})), CONFIGURATION)) == []
    with pytest.raises(InventoryError, match=r"box/alertmanager cannot be scraped: .* set hosts\.box\.roles\.alertmanager\.listen"):
        planned(fleet(at="far"), "far")


def test_a_limit_of_the_settings_is_that_of_its_rule() -> None:
    rules = text(planned(fleet(prometheus={"first_token_s": 2.5})), RULES)
    assert " > 2.5\n" in rules and " > 30\n" in rules and "#" not in rules.partition("\n")[2].replace("alerts.md#", "")


def test_every_alert_has_its_cases_and_its_paragraph() -> None:
    assert set(CASES) == {each.name for each in ALERTS}
    page = (ROOT / "docs/alerts.md").read_text()
    assert [each.name for each in ALERTS if f"### {each.name}\n" not in page] == []


def active(host: str, service: str, health: str, moment: str) -> dict[str, Any]:
    labels = {"host": host, "service": service}
    return {"labels": labels, "health": health, "lastScrape": moment, "scrapeUrl": "http://192.0.2.11:9100/metrics", "lastError": "refused"}


def test_a_target_counts_as_up_by_a_reading_of_now_only() -> None:
    now, before = "2026-12-01T06:00:10.123456789Z", "2026-12-01T05:59:50.1Z"
    said = {
        "activeTargets": [
            active("a", "node_exporter", "up", now),
            active("b", "node_exporter", "up", before),
            active("c", "node_exporter", "down", now),
        ]
    }
    declared = [f"{host}/node_exporter" for host in "abcd"]
    began = 1796104800  # 2026-12-01T06:00:00Z
    stale, down, missing = _down(declared, began, said)
    assert stale.startswith("b/node_exporter: no reading") and down == "c/node_exporter is not up: refused"
    assert missing == "d/node_exporter is not among its targets"

"""The roles `prometheus` and `node_exporter`. `box` has Prometheus and a llama-server, `far` the gateway before that server.

The tests are one story, in the order of the file.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from roles.prometheus.configuration import KEYS, RULES
from roles.prometheus.rules import RULES as ALERTS
from tests.alert_cases import document
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

INVENTORY = """
fleet: watchers
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      firewall:
      llama_cpp: {ui: false}
      models:
      llama_server:
        api_key: true
        preset: {threads: 1, threads-batch: 1}
        models: [small, drowsy]
        models_max: 2
        instances: {chat: {model: small, listen: "0.0.0.0:8081"}}
      node_exporter:
      alertmanager:
      prometheus: {scrape_interval_s: 5}
  far:
    address: 192.0.2.11
    roles:
      base: {time: elsewhere}
      firewall:
      node_exporter: {listen: "0.0.0.0:9100"}
      gateway: {upstream: box/chat, metrics_listen: "0.0.0.0:9101"}
models:
  small: {source: tiny, preset: {ctx-size: 1024}}
  drowsy: {source: tiny, preset: {ctx-size: 1024, sleep-idle-seconds: 20}}
"""

UNITS = "node_systemd_unit_state%7Bstate=%22failed%22,name=%22prometheus-node-exporter.service%22%7D"
EXPORTER = "prometheus-node-exporter"
API = "http://127.0.0.1:9090/api/v1"
ALL = {"box/prometheus", "box/alertmanager", "box/node_exporter", "box/chat", "far/node_exporter", "far/gateway"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("watchers", tmp_path_factory.mktemp("watchers"), INVENTORY, ready=True) as fleet:
        done = fleet.paddock("up", "--lab", "--yes")
        print(done.stdout, done.stderr, flush=True)
        if done.returncode != 0:
            print(fleet.on("box", "journalctl --no-pager -u prometheus -u prometheus-node-exporter | tail -n 40", check=False), flush=True)
        assert done.returncode == 0
        yield fleet


def asked(fleet: LabFleet, what: str) -> Any:
    return json.loads(fleet.on("box", f"curl -sSf '{API}/{what}'"))["data"]


def health(fleet: LabFleet) -> dict[str, str]:
    """Of each target, by `host/service`."""
    return {f"{each['labels']['host']}/{each['labels']['service']}": each["health"] for each in asked(fleet, "targets")["activeTargets"]}


def values(fleet: LabFleet, query: str) -> list[Any]:
    return [*asked(fleet, f"query?query={query}")["result"]]


def test_every_target_of_the_inventory_is_up(fleet: LabFleet) -> None:
    assert health(fleet) == dict.fromkeys(ALL, "up")


def test_a_reading_of_a_llama_server_has_its_host_and_model(fleet: LabFleet) -> None:
    (found,) = values(fleet, "llamacpp:n_decode_total")
    assert {name: found["metric"].get(name) for name in ("host", "service", "model", "job")} == {
        "host": "box",
        "service": "chat",
        "model": "small",
        "job": "llama_server",
    }


def states(fleet: LabFleet) -> dict[str, str]:
    """Of the router's models, as Prometheus has them."""
    return {each["metric"]["model"]: each["metric"]["state"] for each in values(fleet, "paddock_model_state==1")}


def until(fleet: LabFleet, wanted: dict[str, str]) -> None:
    end = time.monotonic() + 120
    while (found := states(fleet)) != wanted and time.monotonic() < end:
        time.sleep(1)
    assert found == wanted


def own_series(fleet: LabFleet) -> set[str]:
    return {each["metric"]["model"] for each in values(fleet, "llamacpp:prompt_tokens_total%7Bserver=%22llama-server%22%7D")}


def ask(fleet: LabFleet, model: str) -> None:
    body = json.dumps({"model": model, "prompt": "hello", "max_tokens": 4})
    key = '. /etc/paddock/llama-server/api-key.env; printf \'header = "Authorization: Bearer %s"\' "$LLAMA_API_KEY" |'
    fleet.on("box", f"{key} curl -sSf --max-time 100 -o /dev/null -K - http://127.0.0.1:8080/v1/completions -d '{body}'")


def test_models_of_a_router_are_told_of_and_no_reading_loads_one_or_keeps_it_awake(fleet: LabFleet) -> None:
    """600 readings of the host's metrics a second apart would take ten minutes: these are as many, as fast as they come."""
    assert set(states(fleet)) == {"small", "drowsy"}
    for model in ("drowsy", "small"):
        ask(fleet, model)
    until(fleet, {"small": "loaded", "drowsy": "loaded"})
    fleet.on("box", "for i in $(seq 600); do curl -sSf -o /dev/null http://127.0.0.1:9100/metrics; done")
    until(fleet, {"small": "loaded", "drowsy": "sleeping"})
    assert own_series(fleet) == {"small"}
    time.sleep(40)
    assert states(fleet) == {"small": "loaded", "drowsy": "sleeping"}


def test_the_metrics_that_the_rules_look_at_are_there(fleet: LabFleet) -> None:
    """But for those of file systems, which a lab host has none of its own of, and for readings of six hours."""
    for name in ("node_memory_MemAvailable_bytes", "node_vmstat_oom_kill", "node_time_seconds", "node_timex_sync_status", UNITS):
        assert {each["metric"]["host"] for each in values(fleet, name)} == {"box", "far"}, name


def test_every_rule_fires_where_it_is_to_and_nowhere_else(fleet: LabFleet) -> None:
    cases = base64.b64encode(yaml.safe_dump(document(RULES)).encode()).decode()
    said = fleet.on("box", f"printf %s {cases} | base64 -d >/run/cases.yml && promtool test rules /run/cases.yml 2>&1; rm /run/cases.yml")
    assert "SUCCESS" in said and "FAILED" not in said, said
    loaded = [each["name"] for group in asked(fleet, "rules")["groups"] for each in group["rules"]]
    assert loaded == [each.name for each in ALERTS]


def test_only_prometheus_reads_the_key_of_a_server(fleet: LabFleet) -> None:
    assert fleet.on("box", f"stat -c '%U %a' {KEYS}/*").split() == ["prometheus", "600"]
    assert fleet.on("box", f"runuser -u nobody -- cat {KEYS}/* 2>/dev/null || echo refused") == "refused\n"


def test_nobody_else_reaches_the_metrics_of_a_host(fleet: LabFleet) -> None:
    """`far` is no host with a Prometheus."""
    box = fleet.host("box").address
    said = fleet.on(
        "far", f"curl -sS --max-time 5 http://{box}:9090/metrics 2>&1 || true; curl -sS --max-time 5 http://{box}:9100/metrics 2>&1 || true"
    )
    assert "_total" not in said and said.count("curl: (7)") == 2, said


def test_a_second_run_changes_nothing(fleet: LabFleet) -> None:
    done = fleet.paddock("plan", "--lab", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_verify_tells_of_a_node_exporter_that_has_stopped_and_of_rules_that_are_not_loaded(fleet: LabFleet) -> None:
    """It passed in the run that brought them. Somebody has put other rules in place of these, and taken them away again."""
    fleet.on("far", f"systemctl stop {EXPORTER}")
    fleet.on("box", f"cp -p {RULES} /run/rules && echo 'groups: []' >{RULES} && systemctl reload prometheus && sleep 2")
    fleet.on("box", f"cp -p /run/rules {RULES}")
    done = fleet.paddock("verify", "--lab", "--limit", "box")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "far/node_exporter is not up" in said and "it has not loaded HostDown" in said, said


def test_nothing_of_it_stays_on_a_host_that_is_torn_down(fleet: LabFleet) -> None:
    done = fleet.paddock("teardown", "--lab", "--yes", "--data")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ("box", "far"):
        left = fleet.on(
            host,
            "ls -d /etc/paddock /etc/prometheus /etc/default/prometheus* /var/lib/prometheus /var/lib/paddock-prometheus"
            " /var/lib/paddock-alertmanager /etc/systemd/system/prometheus*; getent passwd prometheus;"
            " dpkg -l 'prometheus*' | grep '^.[^n]';"
            " systemctl list-unit-files --no-legend 'prometheus*'",
            check=False,
        )
        assert left == "", left

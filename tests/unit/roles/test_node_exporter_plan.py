"""The node exporter as it is planned: where it listens, and who reaches it there."""

from __future__ import annotations

import json
from typing import Any

from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import File, Port, Service
from roles.host_plan import host_plan, remarks_of
from roles.node_exporter.models import CONFIGURATION
from roles.node_exporter.models import UNIT as MODEL_METRICS
from roles.node_exporter.settings import UNIT


def fleet(*, firewall: bool = True, **settings: Any) -> Fleet:
    roles = {"node_exporter": settings, **({"firewall": {}} if firewall else {})}
    hosts = {"box": {"name": "box", "address": "192.0.2.10", "roles": roles}}
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})


def planned(said: Fleet) -> dict[str, Any]:
    plan = host_plan(said.hosts["box"], said, Knowledge())
    return {each.id: each for part in plan.values() for each in part}


def test_it_listens_on_loopback_unless_somebody_says_otherwise() -> None:
    port = planned(fleet())["port:9100/tcp"]
    assert isinstance(port, Port) and port.addresses == ("127.0.0.1",)


def test_of_one_that_listens_everywhere_ipv6_is_declared_too() -> None:
    assert [planned(fleet(listen=at))["port:9100/tcp"].addresses for at in ("0.0.0.0:9100", "[::]:9100")] == [("*",), ("*",)]
    assert planned(fleet(listen="192.0.2.10:9100"))["port:9100/tcp"].addresses == ("192.0.2.10",)


def test_only_its_own_host_reaches_it_while_no_prometheus_reads_it() -> None:
    found = planned(fleet(listen="0.0.0.0:9100"))
    assert found["port:9100/tcp"].reachable_from == ()
    rules = found["file:/etc/paddock/firewall/paddock.nft"]
    assert isinstance(rules, File) and "tcp dport 9100 reject" in rules.data.decode()


def test_another_address_starts_it_anew() -> None:
    one, other = (planned(fleet(listen=at))[f"service:{UNIT}"] for at in ("192.0.2.10:9100", "0.0.0.0:9100"))
    assert isinstance(one, Service) and isinstance(other, Service) and one.started != other.started


def test_the_plan_says_so_where_nothing_keeps_strangers_from_it() -> None:
    for listen, firewall, wanted in (("0.0.0.0:9100", False, 1), ("0.0.0.0:9100", True, 0), ("127.0.0.1:9100", False, 0)):
        said = fleet(listen=listen, firewall=firewall)
        assert len([*remarks_of(said.hosts["box"], said, Knowledge())]) == wanted


def serving(preset: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    """What a host with llama-servers has of it."""
    roles = {"llama_cpp": {}, "models": {}, "llama_server": {**SERVED, **server}, "node_exporter": {}}
    hosts = {"box": {"name": "box", "address": "192.0.2.10", "roles": roles}}
    models = {"small": {"preset": preset or {}}, "other": {}}
    return planned(Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": models}))


SERVED = {"instances": {"chat": {"model": "small", "listen": "127.0.0.1:8081"}}}


def told(found: dict[str, Any]) -> dict[str, Any]:
    file = found[f"file:{CONFIGURATION}"]
    assert isinstance(file, File)
    return {each["name"]: (each["router"], each["models"], each["asleep"]) for each in json.loads(file.data)["servers"]}


def test_a_host_whose_models_may_all_be_asked_runs_no_collector() -> None:
    assert f"service:{MODEL_METRICS}" not in serving()


def test_a_router_and_a_model_that_falls_asleep_are_told_of_by_a_collector() -> None:
    assert told(serving(models=["small", "other"])) == {"llama-server": (True, ["small", "other"], [])}
    found = serving({"sleep-idle-seconds": 60}, models=["other"])
    assert told(found) == {"llama-server": (True, ["other"], []), "chat": (False, ["small"], ["small"])}
    service, unit = found[f"service:{MODEL_METRICS}"], found[f"file:/etc/systemd/system/{MODEL_METRICS}"]
    assert isinstance(service, Service) and isinstance(unit, File) and b"PrivateNetwork=yes" in unit.data


def test_it_shows_the_servers_key_and_is_started_anew_with_another() -> None:
    found = serving(models=["small"], api_key=True)
    unit, service = found[f"file:/etc/systemd/system/{MODEL_METRICS}"], found[f"service:{MODEL_METRICS}"]
    assert isinstance(unit, File) and b"EnvironmentFile=/etc/paddock/llama-server/api-key.env" in unit.data
    assert isinstance(service, Service) and any(each.id.endswith("/api-key.env") for each in service.restarts)


def test_servers_of_an_account_have_no_socket_and_are_not_asked() -> None:
    assert f"service:{MODEL_METRICS}" not in serving(models=["small"], user="ann")

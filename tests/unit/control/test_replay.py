"""An earlier configuration, put together with today's inventory: what comes back, what never does, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from control.deployment.replay import Entry, digest_of, entry_of, packed
from inventory.errors import PaddockError
from resources import File, Port, Resource, Service
from resources.history import Line
from roles.host_plan import HostPlan, host_plan
from tests.unit.roles.small_fleet import Small, pem

LINE = Line(1, "done", datetime(2026, 11, 28, 9, 0, tzinfo=UTC), "up", "home", "0.3.34-1f0c8a2b3c4d", "ada@desk", "0" * 16)


def plan_of(small: Small, host: str) -> HostPlan:
    return host_plan(small.fleet.hosts[host], small.fleet, small.context)


def kept(small: Small, host: str) -> Entry:
    return entry_of(LINE, packed(host, plan_of(small, host), small.fleet))


def again(entry: Entry, small: Small, host: str) -> HostPlan:
    """The host as it was, with what is so today."""
    return host_plan(small.fleet.hosts[host], small.fleet, small.context, entry.parts(plan_of(small, host)))


def by_id(plan: HostPlan) -> dict[str, Resource]:
    return {each.id: each for part in plan.values() for each in part}


@pytest.fixture
def small() -> Small:
    return Small()


@pytest.mark.parametrize("host", ["ai", "one"])
def test_what_nobody_has_changed_comes_back_as_the_plan_that_it_was(small: Small, host: str) -> None:
    assert by_id(again(kept(small, host), small, host)) == by_id(plan_of(small, host))


def test_a_preset_and_a_model_come_back_and_are_what_is_checked(small: Small) -> None:
    entry, before = kept(small, "one"), plan_of(small, "one")
    small.models = {"demo": {"preset": {"ctx-size": 4096}}, "code": {}}
    small.roles["one"]["llama_server"] = {"models": ["code"]}
    assert by_id(plan_of(small, "one")) != by_id(before)
    assert by_id(again(entry, small, "one")) == by_id(before)
    was = entry.as_it_was("one", small.fleet)
    assert [each.models for each in was.servers("one")] == [("demo",)]
    assert was.preset(was.servers("one")[0], "demo")["ctx-size"] == 2048
    assert was.hosts["ai"] == small.fleet.hosts["ai"]


def test_who_was_let_in_is_not_taken_back(small: Small) -> None:
    entry = kept(small, "one")
    small.active = ["laptop"]
    small.chains = {"laptop": pem("a newer one")}
    small.models["demo"] = {"preset": {"ctx-size": 4096}}
    today, back = plan_of(small, "one"), again(entry, small, "one")
    assert back["caddy"] == today["caddy"]
    assert back["llama_server"] != today["llama_server"]


def test_the_ways_between_hosts_are_todays(small: Small) -> None:
    entry = kept(small, "ai")
    assert "-tunnel" not in json.dumps(entry.data["plan"])
    small.models["demo"] = {"preset": {"ctx-size": 4096}}
    today, back = by_id(plan_of(small, "ai")), by_id(again(entry, small, "ai"))
    ways = {name: each for name, each in today.items() if "tunnel" in name}
    assert ways and {name: back[name] for name in ways} == ways
    del small.roles["door"]
    assert not [name for name in by_id(again(entry, small, "ai")) if "tunnel" in name]


def test_a_role_that_came_since_goes_and_one_that_lets_somebody_in_stays(small: Small) -> None:
    entry = kept(small, "one")
    small.roles["one"]["watchdog"] = {}
    small.roles["one"]["firewall"] = {}
    back = again(entry, small, "one")
    assert "watchdog" not in back and "firewall" in back


def test_who_may_reach_a_port_is_todays_to_say(small: Small) -> None:
    small.roles["ai"]["llama_server"]["encrypted"] = False
    entry = kept(small, "ai")
    assert "reachable_from" not in json.dumps(entry.data["plan"])
    small.roles["ai"]["firewall"] = {}
    today, back = by_id(plan_of(small, "ai")), by_id(again(entry, small, "ai"))
    port = today["port:8080/tcp"]
    assert isinstance(port, Port) and port.reachable_from == ("door",) and back[port.id] == port
    rules = "file:/etc/paddock/firewall/paddock.nft"
    assert back[rules] == today[rules]


def test_a_port_that_is_no_longer_open_is_not_opened(small: Small) -> None:
    small.roles["ai"]["llama_server"]["encrypted"] = False
    entry = kept(small, "ai")
    small.roles["ai"]["llama_server"]["listen"] = "127.0.0.1:8080"
    del small.roles["door"]
    with pytest.raises(PaddockError, match=r"entry 1 opens port 8080/tcp of 0\.0\.0\.0, which the inventory does not any more"):
        again(entry, small, "ai")


def test_servers_that_ask_for_a_key_are_not_opened_and_a_key_that_is_gone_does_not_come_back(small: Small) -> None:
    before = kept(small, "one")
    small.roles["one"]["llama_server"]["api_key"] = True
    small.secrets["api-key.one"] = "sk-" + "x" * 40
    with pytest.raises(PaddockError, match="before its servers asked for an API key"):
        again(before, small, "one")
    entry = kept(small, "one")
    assert "sk-" not in json.dumps(entry.data)
    small.secrets["api-key.one"] = "sk-" + "y" * 40
    key = by_id(again(entry, small, "one"))["file:/etc/paddock/llama-server/api-key.env"]
    assert isinstance(key, File) and b"yyyy" in key.data, "the key of today"
    del small.roles["one"]["llama_server"]["api_key"]
    with pytest.raises(
        PaddockError, match=r"reads the secret /etc/paddock/llama-server/api-key\.env, which the inventory gives this host no more"
    ):
        again(entry, small, "one")


def test_a_configuration_is_the_same_one_with_a_new_key_and_another_one_with_a_new_preset(small: Small) -> None:
    small.roles["one"]["llama_server"]["api_key"] = True
    small.secrets["api-key.one"] = "sk-" + "x" * 40
    first = digest_of(plan_of(small, "one"))
    small.secrets["api-key.one"] = "sk-" + "y" * 40
    small.active = ["laptop"]
    assert digest_of(plan_of(small, "one")) == first
    assert digest_of(again(kept(small, "one"), small, "one")) == first
    small.models["demo"] = {"preset": {"ctx-size": 4096}}
    assert digest_of(plan_of(small, "one")) != first


# What a host may say


def changed(entry: Entry, change: Callable[[dict[str, Any]], object]) -> bytes:
    data = json.loads(json.dumps(entry.data))
    change(data)
    return gzip.compress(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "does not have it any more"),
        (b"nonsense", "damaged"),
        (gzip.compress(b"x" * 100)[:-9], "damaged"),
        (gzip.compress(bytes(20 << 20)), "larger than 16 MiB"),
        (bytes((1 << 20) + 1), "larger than 1 MiB"),
        (gzip.compress(b"[" * 100_000), "damaged"),
        (gzip.compress(b"[]"), "damaged"),
        (gzip.compress(b'{"format": 1}'), "damaged"),
        (gzip.compress(b'{"format": 1, "plan": {"llama_cpp": [7]}, "settings": {}, "models": {}}'), "damaged"),
        (gzip.compress(b'{"format": 2}'), "another version of Paddock wrote it, in format 2: this one reads format 1"),
    ],
)
def test_what_is_no_entry_is_refused_in_words(said: bytes, words: str) -> None:
    with pytest.raises(PaddockError, match=words) as caught:
        entry_of(LINE, said)
    assert "\n" not in str(caught.value)


def resource(role: str, kind: str, at: int = 0) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def found(data: dict[str, Any]) -> dict[str, Any]:
        each: dict[str, Any] = [one for one in data["plan"][role] if one["kind"] == kind][at]
        return each

    return found


def adds(role: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["plan"].setdefault(role, []).append(values)


UNIT = resource("llama_server", "service")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (adds("caddy", id="file:/etc/caddy/x", kind="file", path="/etc/caddy/x", content=""), "takes back no role 'caddy'"),
        (adds("nobody's"), "takes back no role"),
        (adds("models", id="file:/etc/shadow", kind="file", path="/etc/shadow", content=""), "names /etc/shadow, where no role"),
        (adds("models", id="link:/root/x", kind="link", path="/root/x", target="/"), "names /root/x"),
        (adds("models", id="directory:/etc", kind="directory", path="/etc", mode=0o777), "names /etc, where no role"),
        (adds("models", id="sysctl:x", kind="sysctl"), "no kind of resource is called sysctl"),
        (lambda data: UNIT(data).update(name=["x"]), "name cannot be tuple"),
        (lambda data: UNIT(data).update(ready_timeout_s="soon"), "ready_timeout_s cannot be str"),
        (lambda data: UNIT(data).update(ready_timeout_s=True), "ready_timeout_s cannot be bool"),
        (lambda data: UNIT(data).update(ports=[{"kind": "port", "id": "port:x", "number": {}}]), "number cannot be dict"),
        (lambda data: UNIT(data).update(more=1), "more cannot be int"),
        (lambda data: UNIT(data).update(restarts=[{"resource": UNIT(data)["id"]}]), "RecursionError"),
        (
            adds(
                "llama_server",
                id="file:/etc/paddock/x",
                kind="file",
                path="/etc/paddock/x",
                content={"secret": "file:/etc/paddock/llama-server/api-key.env"},
            ),
            "file:/etc/paddock/x has the content of a secret",
        ),
        (
            adds("models", id="file:/etc/paddock/y", kind="file", path="/etc/paddock/y", content={"secret": "file:/of/another/host"}),
            "reads the secret /of/another/host, which the inventory gives this host no more",
        ),
    ],
)
def test_a_plan_that_no_paddock_has_written_is_refused_in_words(
    small: Small, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    small.roles["one"]["llama_server"]["api_key"] = True
    small.secrets["api-key.one"] = "sk-" + "x" * 40
    entry = entry_of(LINE, changed(kept(small, "one"), change))
    with pytest.raises(PaddockError, match=words) as caught:
        again(entry, small, "one")
    assert "\n" not in str(caught.value) and "sk-" not in str(caught.value)


def test_settings_that_no_role_has_are_refused_in_words(small: Small) -> None:
    entry = entry_of(LINE, changed(kept(small, "one"), lambda data: data["settings"]["llama_server"].update(models=7)))
    with pytest.raises(PaddockError, match="does not take the settings that it has"):
        entry.as_it_was("one", small.fleet)


def test_a_way_to_a_host_that_is_no_longer_there_is_said(small: Small) -> None:
    entry = kept(small, "one")

    def needs_a_worker(data: dict[str, Any]) -> None:
        unit = next(each for each in data["plan"]["llama_server"] if each["id"] == "file:/etc/systemd/system/llama-server.service")
        unit["content"] += "BindsTo=paddock-rpc-tunnel.service\n"

    entry = entry_of(LINE, changed(entry, needs_a_worker))
    with pytest.raises(PaddockError, match=r"needs paddock-rpc-tunnel\.service, a way to another host"):
        again(entry, small, "one")


def test_a_unit_of_somebody_elses_that_was_accepted_is_accepted_as_it_is_today(small: Small) -> None:
    small.roles["one"]["base"] = {"time": "elsewhere", "accepted_units": ["/etc/systemd/system/caddy.service.d/mine.conf"]}
    entry = kept(small, "one")
    del small.roles["one"]["base"]["accepted_units"]
    services = [each for each in by_id(again(entry, small, "one")).values() if isinstance(each, Service)]
    assert services and not any(each.accepted for each in services)
    assert replace(services[0], accepted=()) == services[0]

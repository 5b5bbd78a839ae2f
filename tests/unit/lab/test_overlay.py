from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inventory.fleet import Fleet
from lab.engine import LabError
from lab.lab_host import LabHost
from lab.overlay import overlay

SHA256 = "0" * 64
KEY = "ssh-ed25519 AAAALAB"


def fleet(**further: object) -> Fleet:
    hosts = {
        "ai": {
            "name": "ai",
            "address": "192.0.2.10",
            "port": 2222,
            "user": "operator",
            "ssh_key": "~/.ssh/id_ed25519",
            "host_key": f"ssh-ed25519 {'AAAAREAL':0<68}",
            "roles": {"base": {"packages": ["htop"]}, "llama_server": {"listen": "192.0.2.10:8080", "models": ["chat"]}},
        },
        "door": {
            "name": "door",
            "address": "door.home.example",
            "roles": {"caddy": {"listen": "0.0.0.0:8443", "sites": {"ai.home.example": {"upstream": "ai"}}}},
        },
    }
    models = {"chat": {"source": {"url": "https://home.example/chat.gguf", "sha256": SHA256}, "preset": {"ctx-size": 4096}}, "other": {}}
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": models, **further})


def lab_host(name: str, address: str) -> LabHost:
    return LabHost("home", name, f"paddock-home-{name}", "running", "root", Path("/lab/ssh_key"), address, "172.17.0.0/16", KEY)


LAB = {"ai": lab_host("ai", "172.17.0.2"), "door": lab_host("door", "172.17.0.3")}


def test_every_host_is_reached_at_its_container_with_the_labs_key_and_its_own_pinned_one() -> None:
    ai, door = overlay(fleet(), LAB)[0].hosts.values()
    assert (ai.address, ai.port, ai.user, ai.ssh_key, ai.host_key) == ("172.17.0.2", 22, "operator", "/lab/ssh_key", KEY)
    assert (door.address, door.user) == ("172.17.0.3", "root")


def test_names_roles_ports_and_everything_else_stay_as_they_are() -> None:
    real, lab = fleet(), overlay(fleet(), LAB)[0]
    assert lab.domain == real.domain
    assert lab.clients == real.clients
    assert [(host.name, tuple(host.carried)) for host in lab.hosts.values()] == [
        (host.name, tuple(host.carried)) for host in real.hosts.values()
    ]
    assert lab.hosts["door"].carried["caddy"] == real.hosts["door"].carried["caddy"]
    assert lab.hosts["ai"].roles.base.packages == ("htop",)


def test_a_role_that_listens_on_the_machines_address_listens_on_the_containers_at_the_same_port() -> None:
    assert overlay(fleet(), LAB)[0].hosts["ai"].roles.llama_server.listen == "172.17.0.2:8080"


def virtual(port: int = 22) -> dict[str, LabHost]:
    kind = "virtual machine (x86-64 without AVX, emulated)"
    machine = replace(LAB["ai"], address="127.77.3.9", network="127.77.0.0/16", port=port, kind=kind, listens="0.0.0.0")
    return {**LAB, "ai": machine}


def test_a_virtual_machine_listens_on_all_its_addresses_for_it_does_not_have_the_one_it_is_reached_at() -> None:
    lab, told = overlay(fleet(networks=["192.0.2.0/24"]), virtual(port=2222))
    ai = lab.hosts["ai"]
    assert (ai.address, ai.port, ai.roles.llama_server.listen) == ("127.77.3.9", 2222, "0.0.0.0:8080")
    assert lab.networks == ("127.77.0.0/16", "172.17.0.0/16")
    assert told[:2] == (
        "ai: the virtual machine (x86-64 without AVX, emulated) paddock-home-ai at 127.77.3.9 port 2222 replaces 192.0.2.10.",
        "ai: 127.77.3.9 is reached from this machine only, not from other lab hosts.",
    )


def test_a_container_does_not_set_the_clock() -> None:
    assert overlay(fleet(), LAB)[0].hosts["ai"].roles.base.time == "elsewhere"


def test_models_are_tiny_and_keep_their_names_and_presets() -> None:
    models = overlay(fleet(), LAB)[0].models
    assert {name: model.source for name, model in models.items()} == {"chat": "tiny", "other": "tiny"}
    assert models["chat"].preset == {"ctx-size": 4096}


def test_certificates_cover_the_labs_addresses_where_they_covered_the_machines() -> None:
    assert overlay(fleet(networks=["192.0.2.0/24"]), LAB)[0].networks == ("172.17.0.0/16",)
    assert overlay(fleet(), LAB)[0].networks == ()


@pytest.mark.parametrize("name", ["home", "h" * 63])
def test_the_lab_has_a_name_and_so_a_state_of_its_own(name: str) -> None:
    lab = overlay(fleet(name=name), LAB)[0].name
    assert lab.startswith(name[:59])
    assert lab.endswith("-lab")
    assert Fleet.model_validate({"name": lab, "domain": "home.example", "hosts": {}}).name == lab


def test_whatever_was_replaced_is_told() -> None:
    told = "\n".join(overlay(fleet(networks=["192.0.2.0/24"]), LAB)[1])
    for replaced in ("192.0.2.10", "door.home.example", "192.0.2.10:8080", "timesyncd", "model chat", "192.0.2.0/24", "home-lab"):
        assert replaced in told
    assert "model other" not in told


def test_a_site_before_what_a_lab_has_not_is_left_out() -> None:
    images = dict.fromkeys(("web", "worker", "postgres", "clickhouse", "valkey", "store"), f"docker.io/example/any:1@sha256:{SHA256}")
    traces = {"email": "ann@home.example", "images": images, "url": "https://traces.home.example:8443"}
    sites = {"ai.home.example": {"upstream": "ai"}, "traces.home.example": {"upstream": {"langfuse": "door"}}}
    hosts = fleet().model_dump()["hosts"]
    hosts["door"]["roles"] = {"docker": {}, "langfuse": traces, "caddy": {"listen": "0.0.0.0:8443", "sites": sites}}
    there, told = overlay(fleet(hosts=hosts), LAB)
    caddy = there.hosts["door"].roles.caddy
    assert caddy and list(caddy.sites) == ["ai.home.example"] and "langfuse" not in there.hosts["door"].carried
    assert "door: the site traces.home.example is left out: a lab has nothing that it leads to." in told


def test_lab_hosts_are_held_to_no_speed_unless_the_inventory_says_to_which() -> None:
    lab, told = overlay(fleet(), LAB)
    assert lab.upgrade.floor_percent == 0
    assert "upgrade: no server is held to a floor of its speed: lab hosts share this machine." in told
    assert overlay(fleet(upgrade={"floor": "30%"}), LAB)[0].upgrade.floor_percent == 30


def test_the_real_fleet_is_left_as_it_was() -> None:
    real = fleet()
    overlay(real, LAB)
    assert real == fleet()


@pytest.mark.parametrize("lab", [{"ai": LAB["ai"]}, {"ai": LAB["ai"], "door": lab_host("door", "")}], ids=["missing", "stopped"])
def test_a_host_without_a_running_lab_host_is_refused_lest_the_real_one_be_deployed_to(lab: dict[str, LabHost]) -> None:
    with pytest.raises(LabError, match="no lab host runs for door"):
        overlay(fleet(), lab)

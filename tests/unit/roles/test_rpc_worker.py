"""A worker computes for the one server that names it: the tunnel between the two, and what each host gets for it."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace
from typing import Any

import pytest
from small_fleet import HARDWARE, SERVING, pem

from inventory.fleet import Fleet
from inventory.knowledge import Certificate, Knowledge
from inventory.options import Options
from resources import File, Port, Release, Resource, Service
from roles.host_plan import host_plan, needs_of, refusals_of, remarks_of
from roles.llama_cpp.gate import instances
from roles.llama_cpp.releases import releases

WORKER: dict[str, Any] = {"listen": "192.0.2.11:50051"}
SERVER = "/etc/systemd/system/llama-server-chat.service"
UNIT = "/etc/systemd/system/paddock-rpc-worker.service"


class Pair:
    """`ai` serves, `big` computes for it, `third` has neither role."""

    def __init__(self) -> None:
        self.instance: dict[str, Any] = {"model": "demo", "listen": "127.0.0.1:8081", "workers": ["big"]}
        self.worker = dict(WORKER)
        self.build: dict[str, Any] = {}
        self.preset: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.known: dict[str, Any] = {}

    @property
    def fleet(self) -> Fleet:
        roles: dict[str, dict[str, Any]] = {
            "ai": {**SERVING, "llama_cpp": self.build, "llama_server": {"instances": {"chat": self.instance}}},
            "big": {"llama_cpp": self.build, "rpc_worker": self.worker, **self.more},
            "third": {**SERVING, "llama_server": {"models": ["demo"]}},
        }
        hosts = {name: {"name": name, "address": f"192.0.2.{10 + at}", "roles": each} for at, (name, each) in enumerate(roles.items())}
        models = {"demo": {"preset": self.preset}}
        return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": models})

    @property
    def knowledge(self) -> Knowledge:
        hardware = dict.fromkeys(self.fleet.hosts, HARDWARE)
        certificates = {name: Certificate(pem(name), f"key of {name}", f"host {name} 1") for name in ("ai", "big", "third")}
        found: dict[str, Any] = {"hardware": hardware, "releases": releases(self.fleet, hardware, {}), "host_ca": pem("the CA")}
        return Knowledge(**{**found, "hosts": certificates, **self.known})

    def plan(self, host: str) -> dict[str, Resource]:
        parts = host_plan(self.fleet.hosts[host], self.fleet, self.knowledge)
        return {each.id: each for part in parts.values() for each in part}

    def text(self, host: str, path: str) -> str:
        file = self.plan(host)[f"file:{path}"]
        assert isinstance(file, File)
        return file.data.decode()

    def release(self, host: str) -> Release:
        found = self.knowledge.releases[host]
        assert isinstance(found, Release)
        return found

    def refused(self, host: str) -> list[str]:
        return list(refusals_of(self.fleet.hosts[host], self.fleet, self.knowledge))

    def remarks(self, host: str) -> list[str]:
        return [line for line in remarks_of(self.fleet.hosts[host], self.fleet, self.knowledge) if "rpc_worker" in line]


@pytest.fixture
def pair() -> Pair:
    return Pair()


# What both run


def test_the_two_have_one_release_with_rpc_and_others_stay_as_they_are(pair: Pair) -> None:
    ai, big, third = (pair.release(host) for host in ("ai", "big", "third"))
    assert ai.fingerprint == big.fingerprint and ai.builder == big.builder == "ai"
    assert dict(ai.options)["GGML_RPC"] == "ON" and dict(ai.options)["GGML_RPC_RDMA"] == "OFF"
    assert ai.targets == ("llama-server", "llama-bench", "ggml-rpc-server")
    assert third.targets == ("llama-server", "llama-bench")
    assert not [name for name, _ in third.options if "RPC" in name]


def test_ggml_rpc_server_has_an_account_and_a_network_of_its_own(pair: Pair) -> None:
    pair.worker |= {"memory_max": "8G", "threads": 3, "cache": True}
    text = pair.text("big", UNIT)
    assert "/bin/ggml-rpc-server \\\n    --host 127.0.0.1 --port 50052 --threads 3 --cache\n" in text
    for line in ("User=paddock-rpc", "MemoryMax=8G", "PrivateNetwork=yes", "PrivateDevices=yes"):
        assert f"{line}\n" in text
    assert "LLAMA_CACHE=/var/cache/paddock-rpc\nCacheDirectory=paddock-rpc\n" in text


def test_the_server_calls_its_worker_on_loopback_and_waits_until_it_is_there(pair: Pair) -> None:
    text = pair.text("ai", SERVER)
    assert "    --rpc 127.0.0.1:50060 \\\n" in text
    assert "IPAddressAllow=localhost\n" in text
    assert "After=paddock-rpc-tunnel.service\n" in text and "StartLimitIntervalSec=0\n" in text
    assert needs_of(pair.fleet.hosts["ai"], pair.fleet)["llama_server"] == {"big"}


def test_a_server_is_restarted_with_its_worker_which_it_does_not_outlive(pair: Pair) -> None:
    before = pair.text("ai", SERVER)
    pair.worker["expiry"] = {"days": 20}
    assert pair.text("ai", SERVER) == before
    pair.worker["threads"] = 3
    assert pair.text("ai", SERVER) != before


def test_another_worker_ends_no_connection_to_the_others(pair: Pair) -> None:
    def service() -> Service:
        found = pair.plan("ai")["service:paddock-rpc-tunnel.service"]
        assert isinstance(found, Service)
        return found

    before = service()
    pair.worker["listen"] = "192.0.2.11:50059"
    assert service().started == before.started and service().loaded != before.loaded


def test_a_trial_of_a_release_calls_no_worker(pair: Pair) -> None:
    parts = host_plan(pair.fleet.hosts["ai"], pair.fleet, pair.knowledge)
    release = pair.release("ai")
    (found,) = instances([each for part in parts.values() for each in part], release)
    assert "--alias" in found.arguments
    assert not [each for each in found.arguments if each == "--rpc" or "50060" in each]
    pair.worker["encrypted"] = False
    parts = host_plan(pair.fleet.hosts["ai"], pair.fleet, pair.knowledge)
    (found,) = instances([each for part in parts.values() for each in part], release)
    assert [each for each in found.properties if "IPAddressAllow" in each] == ["IPAddressAllow=localhost", "IPAddressAllow=192.0.2.11"]


# The tunnel


def test_each_end_accepts_the_other_hosts_certificate_and_no_other(pair: Pair) -> None:
    assert pair.text("ai", "/etc/paddock/rpc-tunnel/big.peers.pem") == pem("the CA")
    assert pair.text("big", "/etc/paddock/rpc-worker/worker.peers.pem") == pem("ai") + pem("the CA")
    assert ' verify required verifyhost "host big 1" ssl-min-ver TLSv1.3 ' in pair.text("ai", "/etc/paddock/rpc-tunnel/tunnel.cfg")
    assert " verify required ssl-min-ver TLSv1.3 " in pair.text("big", "/etc/paddock/rpc-worker/tunnel.cfg")
    assert pair.text("big", "/etc/paddock/rpc-worker/worker.pins") == f"{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem('ai'))).hexdigest()}\n"
    for host, path in (("ai", "/etc/paddock/rpc-tunnel"), ("big", "/etc/paddock/rpc-worker")):
        key = pair.plan(host)[f"file:{path}/host.pem.key"]
        assert isinstance(key, File) and key.secret and (key.owner, key.mode) == ("paddock-tunnel", 0o600)
        assert key.data == f"key of {host}".encode()


def test_the_ends_meet(pair: Pair) -> None:
    calling, called = pair.text("ai", "/etc/paddock/rpc-tunnel/tunnel.cfg"), pair.text("big", "/etc/paddock/rpc-worker/tunnel.cfg")
    assert "ListenStream=127.0.0.1:50060\n" in pair.text("ai", "/etc/systemd/system/paddock-rpc-tunnel.socket")
    assert "ListenStream=192.0.2.11:50051\n" in pair.text("big", "/etc/systemd/system/paddock-rpc-worker-tunnel.socket")
    assert "listen big\n  bind fd@3\n  server big 192.0.2.11:50051 ssl " in calling
    assert "listen worker\n  bind fd@3 ssl " in called and "\n  server worker unix@/run/paddock/rpc-door.sock\n" in called


def test_a_certificate_issued_anew_is_read_without_an_interruption_and_another_peer_ends_what_is_open(pair: Pair) -> None:
    def service() -> Service:
        found = pair.plan("big")["service:paddock-rpc-worker-tunnel.service"]
        assert isinstance(found, Service)
        return found

    before = service()
    pair.known = {"hosts": {name: Certificate(pem(f"{name} anew"), "key") for name in ("ai", "big")}}
    renewed = service()
    assert (renewed.started, renewed.loaded != before.loaded) == (before.started, True)
    pair.instance["workers"] = []
    assert service().started != before.started


def test_only_the_servers_host_may_reach_the_port_and_nobody_where_none_names_the_worker(pair: Pair) -> None:
    def port() -> Port:
        found = pair.plan("big")["port:50051/tcp"]
        assert isinstance(found, Port)
        return found

    assert port().reachable_from == ("ai",)
    pair.instance["workers"] = []
    assert port().reachable_from == ()
    assert pair.text("big", "/etc/paddock/rpc-worker/worker.peers.pem") == pem("the CA")
    assert [line for line in pair.remarks("big") if "nobody uses it" in line]


def test_a_firewall_opens_the_port_to_the_servers_host_alone(pair: Pair) -> None:
    pair.more["firewall"] = {}
    rules = pair.text("big", "/etc/paddock/firewall/paddock.nft")
    assert [line.strip() for line in rules.splitlines() if "50051" in line] == [
        "ip saddr { 192.0.2.10 } tcp dport 50051 accept",
        "tcp dport 50051 reject",
    ]
    assert "50052" not in rules


def test_hosts_that_are_no_end_of_a_tunnel_get_no_certificate(pair: Pair) -> None:
    assert pair.fleet.tunnel_ends == {"ai", "big"}
    pair.worker["encrypted"] = False
    assert pair.fleet.tunnel_ends == frozenset()


# Given up, loudly


def test_without_encryption_there_is_no_tunnel_and_the_plan_says_so(pair: Pair) -> None:
    assert not pair.remarks("big")
    pair.worker["encrypted"] = False
    for host in ("ai", "big"):
        assert not [name for name in pair.plan(host) if "tunnel" in name or name.endswith((".key", ".pem"))]
    assert "NOT ENCRYPTED" in pair.text("big", UNIT) and "--host 192.0.2.11 --port 50051\n" in pair.text("big", UNIT)
    assert "PrivateNetwork" not in pair.text("big", UNIT) and "service:paddock-rpc-door.service" not in pair.plan("big")
    assert "    --rpc 192.0.2.11:50051 \\\n" in pair.text("ai", SERVER)
    assert "IPAddressAllow=localhost 192.0.2.11\n" in pair.text("ai", SERVER)
    (said,) = pair.remarks("big")
    assert "NOT ENCRYPTED" in said and "no firewall" in said
    pair.more["firewall"] = {}
    (said,) = pair.remarks("big")
    assert "NOT ENCRYPTED" in said and "no firewall" not in said


def test_without_a_tunnel_a_server_on_loopback_needs_an_address(pair: Pair) -> None:
    pair.worker |= {"encrypted": False, "listen": "0.0.0.0:50051"}
    assert not pair.refused("big")
    fleet = pair.fleet
    hosts = {**fleet.hosts, "big": fleet.hosts["big"].model_copy(update={"address": "big.home.example"})}
    fleet = fleet.model_copy(update={"hosts": hosts})
    (said,) = refusals_of(fleet.hosts["big"], fleet, pair.knowledge)
    assert "needs the IP address of big" in said


# Refused


def test_a_preset_that_names_rpc_servers_itself_is_refused(pair: Pair) -> None:
    pair.preset["rpc"] = "192.0.2.11:50052"
    (said,) = pair.refused("ai")
    assert 'leave "rpc" out of the preset' in said


def test_a_version_without_rpc_is_refused(pair: Pair) -> None:
    pair.known = {"options": {"big": Options("a source", "0.1.0", ())}}
    (said,) = pair.refused("big")
    assert "llama.cpp 0.1.0 has no RPC" in said


def test_a_build_without_rpc_is_refused_at_both_ends(pair: Pair) -> None:
    pair.build = {"options": {"GGML_RPC": False}}
    for host in ("ai", "big"):
        (said,) = pair.refused(host)
        assert said.startswith(f"hosts.{host}.roles.llama_cpp.options: without GGML_RPC")


def test_a_release_of_another_source_is_refused(pair: Pair) -> None:
    found = pair.knowledge.releases
    pair.known = {"releases": {**found, "big": replace(pair.release("big"), source="another", version="0.3.35")}}
    (said,) = pair.refused("ai")
    assert "big has llama.cpp 0.3.35 of another source" in said


def test_cards_that_serve_both_roles_are_refused(pair: Pair) -> None:
    pair.more = {"models": {}, "llama_server": {"models": ["demo"]}}
    pair.worker["memory_max"] = "4G"
    assert not pair.refused("big")
    pair.known = {"releases": {**pair.knowledge.releases, "big": replace(pair.release("big"), backend="cuda")}}
    (said,) = pair.refused("big")
    assert "its cards serve big's own llama-servers" in said


def test_a_server_with_workers_is_in_its_hosts_network_and_reaches_loopback_alone(pair: Pair) -> None:
    text = pair.text("ai", "/etc/systemd/system/llama-server-chat.service")
    assert "PrivateNetwork=yes" not in text and "IPAddressDeny=any\nIPAddressAllow=localhost\n" in text

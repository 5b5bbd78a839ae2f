"""One model on two hosts: llama-server on the one, ggml-rpc-server on the other, and between them a tunnel that lets in nobody else.

The third host is a worker too, with a certificate of the fleet for hosts, and nobody's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet

INVENTORY = """
fleet: rpc
domain: home.example
networks: [192.0.2.0/24]
settle: 0
defaults:
  roles:
    base: {time: elsewhere}
    llama_cpp: {ui: false}
hosts:
  ai:
    address: 192.0.2.10
    roles:
      models:
      llama_server:
        instances:
          both: {model: demo, listen: "127.0.0.1:8081", workers: [big], preset: {n-gpu-layers: 1, log-verbosity: 4}}
          alone: {model: demo, listen: "127.0.0.1:8082"}
  big:
    address: 192.0.2.11
    roles:
      rpc_worker: {listen: "192.0.2.11:50051", memory_max: 1G}
  third:
    address: 192.0.2.12
    roles:
      rpc_worker: {listen: "192.0.2.12:50051"}
models: {demo: {preset: {ctx-size: 512}}}
clients: {laptop: {}}
"""

ANSWER = "Hello from a tiny model: this host answers."

NAMED = "output.weight"
"""A tensor whose name the protocol of RPC says."""

OF_THE_TUNNEL = ("/etc/paddock/rpc-worker/host.key", "/etc/paddock/rpc-tunnel/host.key")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("rpc")
    with lab_fleet("rpc", tmp_path_factory.mktemp("rpc"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


@pytest.fixture
def fleet(deployed: LabFleet) -> LabFleet:
    if deployed.inventory.read_text() != INVENTORY:
        deployed.write(INVENTORY)
        deployed.up("--no-verify")
    return deployed


def answer(fleet: LabFleet, port: int, wait_s: int = 0) -> str:
    """What the model says, as soon as it does."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 40, "temperature": 0, "cache_prompt": False})
    until = time.monotonic() + wait_s
    while True:
        said = fleet.on("ai", f"curl -s --max-time 60 http://127.0.0.1:{port}/v1/chat/completions -d '{body}' || true")
        if '"choices"' in said or time.monotonic() > until:
            found: Any = json.loads(said)
            return str(found["choices"][0]["message"]["content"]).strip()
        time.sleep(1)


def sniffed(fleet: LabFleet, interface: str, port: int) -> str:
    """Whether the name of a tensor is to be read on the way while the model is loaded anew: `yes`, `no`, or that nothing went by."""
    return fleet.on(
        "ai",
        f"""
        command -v tcpdump >/dev/null || apt-get -qq -y install --no-install-recommends tcpdump >/dev/null 2>&1
        tcpdump --interface={interface} --snapshot-length=0 -U -w /tmp/sniffed port {port} >/dev/null 2>&1 &
        sleep 2
        systemctl restart llama-server-both
        for _ in $(seq 60); do curl -sf http://127.0.0.1:8081/health >/dev/null && break; sleep 1; done
        sleep 1
        kill $!
        wait || true
        [ "$(stat -c %s /tmp/sniffed)" -gt 5000 ] || echo nothing
        grep -qaF {NAMED} /tmp/sniffed && echo yes || echo no
        """,
    ).strip()


def call(fleet: LabFleet, *, certificate: str = "", key: str = "") -> tuple[bool, str]:
    """Whether the worker of `big` lets the third host in, and what openssl says."""
    big = fleet.host("big").address
    shown = f"-cert {certificate} -key {key}" if certificate else ""
    # An empty answer is no end: who is let in is waited for.
    command = f"(sleep 4) | timeout 10 openssl s_client -connect {big}:50051 -tls1_3 {shown} 2>&1 || true"
    said = fleet.on("third", command)
    return "alert" not in said and "CONNECTED" in said, said


# What it is for


def test_one_model_answers_from_two_hosts_as_from_one(fleet: LabFleet) -> None:
    assert answer(fleet, 8081) == answer(fleet, 8082) == ANSWER
    log = fleet.on("ai", "journalctl --output=cat --unit=llama-server-both --no-pager")
    assert "RPC0" in log and "offloaded 1/2 layers" in log, log[-3000:]


def test_the_two_run_the_same_release_which_was_built_once(fleet: LabFleet) -> None:
    paths = {fleet.on(host, "readlink /opt/paddock/llama.cpp/current").strip() for host in ("ai", "big")}
    assert len(paths) == 1


def test_the_next_run_changes_nothing(fleet: LabFleet) -> None:
    done = fleet.up()
    assert done.stdout.count("0 changed") == 3, done.stdout


# Who gets in, and who reads along


def test_nobody_reads_along_on_the_network(fleet: LabFleet) -> None:
    assert sniffed(fleet, "lo", 50060) == "yes", "nothing would be found where it is clear text"
    assert sniffed(fleet, "eth0", 50051) == "no"


def test_a_third_host_gets_nothing_with_whatever_certificate_of_the_fleet(fleet: LabFleet) -> None:
    assert fleet.paddock("certs", "export", "laptop", "--lab").returncode == 0
    certificate, key = fleet.state / "export/laptop/cert.pem", fleet.state / "export/laptop/key.pem"
    fleet.on("third", f"cat >/root/client.pem <<'END'\n{certificate.read_text()}END\ncat >/root/client.key <<'END'\n{key.read_text()}END\n")
    own = "/etc/paddock/rpc-worker/host"
    for shown in ({}, {"certificate": "/root/client.pem", "key": "/root/client.key"}, {"certificate": f"{own}.pem", "key": f"{own}.key"}):
        let_in, said = call(fleet, **shown)
        assert not let_in, said
    assert answer(fleet, 8081) == ANSWER


def test_the_server_whose_certificate_it_is_would_get_in(fleet: LabFleet) -> None:
    """So the test above would see it."""
    own = "/etc/paddock/rpc-tunnel/host"
    pair = fleet.on("ai", f"cat {own}.pem {own}.key")
    fleet.on("third", f"umask 077; cat >/root/ai.pem <<'END'\n{pair}END\n")
    let_in, said = call(fleet, certificate="/root/ai.pem", key="/root/ai.pem")
    assert let_in, said


def test_keys_are_their_accounts_alone_and_other_accounts_of_the_host_do_not_reach_the_worker(fleet: LabFleet) -> None:
    for host, path in (("big", OF_THE_TUNNEL[0]), ("ai", OF_THE_TUNNEL[1])):
        assert fleet.on(host, f"stat -c '%U %a' {path}").strip() == "paddock-tunnel 600"
    assert "ggml-rpc-server" not in fleet.on("big", "ss -Hltnp")
    account = "setpriv --reuid=nobody --clear-groups"
    assert "could not connect" in fleet.on("big", f"{account} curl -sS --max-time 3 http://127.0.0.1:50052/ 2>&1 || true").lower()
    assert fleet.on("big", "stat -c '%U %a' /run/paddock/rpc-door.sock").strip() == "paddock-tunnel 600"


# What ends and begins again


KILLED = (("big", "paddock-rpc-worker"), ("big", "paddock-rpc-door"), ("big", "paddock-rpc-worker-tunnel"), ("ai", "paddock-rpc-tunnel"))


@pytest.mark.parametrize(("host", "unit"), KILLED)
def test_whatever_is_killed_on_the_way_the_model_answers_again(fleet: LabFleet, host: str, unit: str) -> None:
    fleet.on(host, f"systemctl kill --signal=KILL {unit}")
    assert answer(fleet, 8081, wait_s=60) == ANSWER
    for each, units in (
        ("big", "paddock-rpc-worker paddock-rpc-door paddock-rpc-worker-tunnel"),
        ("ai", "paddock-rpc-tunnel llama-server-both"),
    ):
        fleet.on(each, f"systemctl restart {units}")  # what has died lately is told of for a while
    assert answer(fleet, 8081, wait_s=60) == ANSWER


def test_a_worker_that_is_to_run_otherwise_is_restarted_and_its_server_with_it(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("memory_max: 1G}", "memory_max: 1G, threads: 1}"))
    done = fleet.up()
    assert "service:llama-server-both.service  (restarts)" in done.stdout
    assert answer(fleet, 8081) == ANSWER


def test_certificates_are_renewed_without_an_interruption_and_the_ones_before_are_worth_nothing(fleet: LabFleet) -> None:
    answer(fleet, 8081, wait_s=60)
    own = "/etc/paddock/rpc-tunnel/host"
    pair = fleet.on("ai", f"cat {own}.pem {own}.key")
    fleet.on("third", f"umask 077; cat >/root/ai.pem <<'END'\n{pair}END\n")
    before = fleet.on("ai", "systemctl show -P InvocationID llama-server-both paddock-rpc-tunnel")
    done = fleet.paddock("certs", "renew", "ai", "big", "--lab")
    assert done.returncode == 0 and "in force on ai, big, third" in done.stdout, done.stdout + done.stderr
    assert fleet.on("ai", "systemctl show -P InvocationID llama-server-both paddock-rpc-tunnel") == before
    assert answer(fleet, 8081) == ANSWER
    let_in, said = call(fleet, certificate="/root/ai.pem", key="/root/ai.pem")
    assert not let_in, said
    fleet.on("ai", "systemctl restart llama-server-both")
    assert answer(fleet, 8081, wait_s=60) == ANSWER


def test_a_server_that_names_the_worker_no_more_is_kept_out_and_its_key_leaves_the_host(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("workers: [big], ", ""))
    done = fleet.up()
    assert "nobody uses it" in done.stdout + done.stderr
    assert answer(fleet, 8081) == ANSWER
    assert fleet.on("ai", "ls /etc/paddock/rpc-tunnel /etc/systemd/system/paddock-rpc-tunnel.service 2>/dev/null || true") == ""
    assert ":50051" not in fleet.on("big", "ss -Htn state established")


# Given up


def test_without_encryption_the_plan_says_so_and_everybody_reads_along(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("memory_max: 1G}", "encrypted: false}"))
    planned = fleet.paddock("plan", "--lab")
    assert "hosts.big.roles.rpc_worker: NOT ENCRYPTED" in planned.stdout + planned.stderr
    fleet.up()
    assert answer(fleet, 8081, wait_s=60) == ANSWER
    assert sniffed(fleet, "eth0", 50051) == "yes"
    assert fleet.on("big", "ls /etc/paddock/rpc-worker 2>/dev/null || true") == ""

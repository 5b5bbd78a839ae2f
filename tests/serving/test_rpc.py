"""One model on two hosts: llama-server on the one, ggml-rpc-server on the other, and between them a tunnel that lets in nobody else.

The third host is a worker too, with a certificate of the fleet for hosts, and nobody's.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from control.deployment.knowledge import knowledge_of_memory
from control.models.gguf import local_shape
from control.models.local import tiny_model
from control.state.fleet import FleetState
from inventory.load import load
from lab import hosts as lab_hosts
from lab.engine import engine
from roles.llama_server.demands import judged
from roles.llama_server.memory import MIB
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn
from tests.thief import stolen

pytestmark = turn(1, of=3)

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

THREE = INVENTORY.replace("workers: [big]", "workers: [big, third]")
DEEP = THREE.replace("both: {model: demo", "both: {model: deep").replace("n-gpu-layers: 1", "n-gpu-layers: 5")
"""Two blocks stay at home, and the other four and the output go to the two workers."""

OF_THE_TUNNEL = ("/etc/paddock/rpc-worker/host.pem.key", "/etc/paddock/rpc-tunnel/host.pem.key")


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


def deep_model(path: Path) -> str:
    """Writes a llama of six layers with random weights, and gives its sha256: what it says has no meaning, and depends on every layer."""
    from gguf import GGUFReader, GGUFWriter, TokenType

    blocks, embedding, forward, random = 6, 128, 256, numpy.random.RandomState(36)
    tiny = GGUFReader(tiny_model())
    tokens = tiny.fields["tokenizer.ggml.tokens"].contents()
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(embedding)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(forward)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([TokenType(each) for each in tiny.fields["tokenizer.ggml.token_type"].contents()])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    square, wide, tall = (embedding, embedding), (forward, embedding), (embedding, forward)
    shapes = {"token_embd": (len(tokens), embedding), "output": (len(tokens), embedding), "output_norm": (embedding,)}
    for block in range(blocks):
        of_block = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
        of_block |= {"ffn_gate": wide, "ffn_up": wide, "ffn_down": tall, "attn_norm": (embedding,), "ffn_norm": (embedding,)}
        shapes |= {f"blk.{block}.{name}": shape for name, shape in of_block.items()}
    for name, shape in shapes.items():
        norm, scale = len(shape) == 1, 1.0 if name == "token_embd" else 0.2
        weights = numpy.ones(shape, numpy.float32) if norm else (scale * random.standard_normal(shape)).astype(numpy.float16)
        writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    # Who is let in is waited for, and ends it himself: openssl says DONE. Who is not is hung up on.
    command = f"(sleep 4) | timeout 10 openssl s_client -connect {big}:50051 -tls1_3 {shown} 2>&1 || true"
    said = fleet.on("third", command)
    return "DONE" in said, said


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


@pytest.mark.parametrize("host", ["ai", "big"])
def test_no_unit_of_either_end_is_more_exposed_than_2_0(fleet: LabFleet, host: str) -> None:
    assert fleet.exposed(host) == ""


def test_a_model_on_three_hosts_says_the_same_as_on_one_and_takes_on_each_what_is_computed(fleet: LabFleet) -> None:
    """A lab has tiny models in place of all others, so the release is started by hand, as its unit would."""
    path = fleet.directory / "deep.gguf"
    digest = deep_model(path)
    engine().run("exec", "--interactive", fleet.host("ai").container, "sh", "-c", "cat >/root/deep.gguf", stdin=path.read_bytes())
    fleet.write(THREE)
    fleet.up()
    fleet.on("ai", "systemctl stop llama-server-both")
    body = json.dumps({"prompt": "Once upon a time", "n_predict": 48, "temperature": 0, "return_tokens": True, "ignore_eos": True})
    asked = f"curl -sf --retry 60 --retry-all-errors --retry-delay 1 http://127.0.0.1:8083/completion -d '{body}'"
    common = "/opt/paddock/llama.cpp/current/bin/llama-server -m /root/deep.gguf --port 8083 --no-ui --offline -c 512 -lv 4"
    said, logs = [], []
    for more in ("--rpc 127.0.0.1:50060,127.0.0.1:50061 --n-gpu-layers 5", ""):
        fleet.on("ai", f"systemd-run --quiet --collect --unit=deep {common} {more}")
        said.append(json.loads(fleet.on("ai", asked))["tokens"])
        logs.append(fleet.on("ai", "journalctl --output=cat --no-pager --unit=deep"))
        fleet.on("ai", "systemctl stop deep")
    fleet.on("ai", "systemctl start llama-server-both")
    assert said[0] == said[1] and len(set(said[0])) > 8, said
    counted = fleet.directory / "deep.yml"
    counted.write_text(DEEP.replace("models: {", f"models: {{deep: {{source: {{local: deep.gguf, sha256: {digest}}}}}, "))
    inventory, state = load(counted), FleetState.of(fleet.inventory, "rpc-lab")
    places = judged("ai", inventory, knowledge_of_memory(inventory, state), {"deep": local_shape(path)})
    computed = [row.memory.weights / MIB for place in places[:2] for row in place.rows if row.model == "deep"]
    taken = [float(each) for each in re.findall(r"RPC\d\S* model buffer size =\s*([0-9.]+) MiB", logs[0])]
    assert taken[-2:] == [pytest.approx(each, abs=0.02) for each in computed], logs[0][-6000:]


# Who gets in, and who reads along


def test_nobody_reads_along_on_the_network(fleet: LabFleet) -> None:
    assert sniffed(fleet, "lo", 50060) == "yes", "nothing would be found where it is clear text"
    assert sniffed(fleet, "eth0", 50051) == "no"


def test_a_third_host_gets_nothing_with_whatever_certificate_of_the_fleet(fleet: LabFleet) -> None:
    assert fleet.paddock("certs", "export", "laptop", "--lab").returncode == 0
    certificate, key = fleet.state / "export/laptop/cert.pem", fleet.state / "export/laptop/key.pem"
    fleet.on("third", f"cat >/root/client.pem <<'END'\n{certificate.read_text()}END\ncat >/root/client.key <<'END'\n{key.read_text()}END\n")
    own = "/etc/paddock/rpc-worker/host.pem"
    for shown in (
        {},
        {"certificate": "/root/client.pem", "key": "/root/client.key"},
        {"certificate": own, "key": f"{own}.key"},
    ):
        let_in, said = call(fleet, **shown)
        assert not let_in, said
    assert answer(fleet, 8081) == ANSWER


def test_the_server_whose_certificate_it_is_would_get_in(fleet: LabFleet) -> None:
    """So the test above would see it."""
    own = "/etc/paddock/rpc-tunnel/host.pem"
    pair = fleet.on("ai", f"cat {own} {own}.key")
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


def test_no_account_takes_the_port_at_which_a_server_calls_its_worker(fleet: LabFleet) -> None:
    tunnel = "paddock-rpc-tunnel"
    fleet.on("ai", "command -v python3 >/dev/null || apt-get -qq -y install --no-install-recommends python3-minimal >/dev/null 2>&1")
    again = f"for i in 1 2 3; do systemctl reload {tunnel}; sleep 1; systemctl restart {tunnel}; sleep 0.5; done"
    assert stolen(fleet, "ai", ["127.0.0.1:50060", "0.0.0.0:50060"], f"{again}; systemctl kill -s KILL {tunnel}; sleep 3") == 0
    fleet.on("ai", f"systemctl restart {tunnel} llama-server-both")
    assert answer(fleet, 8081, wait_s=60) == ANSWER


def test_a_worker_that_is_to_run_otherwise_is_restarted_and_its_server_with_it(fleet: LabFleet) -> None:
    fleet.write(INVENTORY.replace("memory_max: 1G}", "memory_max: 1G, threads: 1}"))
    done = fleet.up()
    assert "service:llama-server-both.service  (restarts)" in done.stdout
    assert answer(fleet, 8081) == ANSWER


def test_certificates_are_renewed_without_an_interruption_and_the_ones_before_are_worth_nothing(fleet: LabFleet) -> None:
    answer(fleet, 8081, wait_s=60)
    own = "/etc/paddock/rpc-tunnel/host.pem"
    pair = fleet.on("ai", f"cat {own} {own}.key")
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

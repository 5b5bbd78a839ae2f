"""Who takes a port of a server, hears its workers, or has it call somebody: no account of the host, and no caller."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn
from tests.thief import stolen

pytestmark = turn(0, of=3)

INVENTORY = """
fleet: ports
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {listen: "0.0.0.0:8080", models: [demo], api_key: true}
      admin:
      caddy: {sites: {ai.home.example: {upstream: ai}}}
      watchdog:
  other:
    address: 192.0.2.11
    roles: {base: {time: elsewhere, packages: [python3]}}
models: {demo: {preset: {ctx-size: 512}}}
clients: {boss: {admin: true}}
"""

SERVER, HELD = "llama-server.service", "paddock-proxy-llama-server.socket"
SOCKET = "/run/paddock/llama-server.sock"
PORTS = (8080, 8079)
RESTARTS = 8
"""More than systemd allows a unit in ten seconds that says nothing of it."""

SQUATTER = """
import socket, sys
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as listener, open(sys.argv[2], "ab", buffering=0) as heard:
    while True:
        caller, _ = listener.accept()
        caller.settimeout(1)
        try:
            heard.write(b"called: " + caller.recv(65536) + bytes([10]))
        except OSError:
            pass
        caller.close()
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    lab_hosts.down("ports")
    with lab_fleet("ports", tmp_path_factory.mktemp("ports"), INVENTORY, ready=True) as fleet:
        fleet.up()
        yield fleet


def key(fleet: LabFleet, name: str = "api-key.ai") -> str:
    return fleet.paddock("secrets", "show", "--lab", name).stdout.strip()


def well(fleet: LabFleet) -> bool:
    """Whether it answers within the time that a start takes."""
    asked = "for i in $(seq 150); do curl -fsS -m 2 127.0.0.1:8080/health 2>/dev/null && break; sleep 0.2; done"
    return '"ok"' in fleet.on("ai", asked)


@contextmanager
def squatter(fleet: LabFleet, host: str, port: int) -> Iterator[str]:
    """Another account listens on a port of a host, and writes down what comes. Gives where."""
    heard, unit = f"/tmp/heard-{port}", f"squatter-{port}"
    run = f"systemd-run --quiet --unit={unit} --uid=nobody python3 -c {shlex.quote(SQUATTER)} {port} {heard}"
    fleet.on(
        host, f"rm -f {heard}; {run}; for i in $(seq 50); do ss -Hltn 'sport = :{port}' | grep -q . && exit 0; sleep 0.1; done; exit 1"
    )
    try:
        yield heard
    finally:
        fleet.on(host, f"systemctl stop {unit}", check=False)


def test_no_account_takes_a_port_while_what_answers_there_starts_again_and_again(fleet: LabFleet) -> None:
    places = [f"{address}:{port}" for port in PORTS for address in ("127.0.0.1", "0.0.0.0")]
    again = f"for i in $(seq {RESTARTS}); do systemctl restart {SERVER} paddock-admin; sleep 0.2; done"
    kill = f"for i in 1 2; do systemctl kill -s KILL {SERVER} paddock-admin; sleep 3; done"
    proxy = f"systemctl kill -s KILL {HELD.replace('.socket', '.service')}; systemctl stop {SERVER}; sleep 1; systemctl start {SERVER}"
    assert stolen(fleet, "ai", places, f"{again}; {kill}; {proxy}") == 0
    assert well(fleet)
    assert fleet.on("ai", f"systemctl is-active {SERVER} {HELD} paddock-admin.service paddock-admin.socket").split() == ["active"] * 4
    fleet.on("ai", f"systemctl restart {SERVER} paddock-admin")  # how often they died is told as long as they run


def test_a_server_that_dies_again_and_again_is_started_again_and_again(fleet: LabFleet) -> None:
    fleet.on("ai", f"systemctl restart {SERVER}")
    for number in range(1, 7):
        killed = f"systemctl kill --kill-whom=main -s KILL {SERVER}"
        until = f"for i in $(seq 400); do [ $(systemctl show -P NRestarts {SERVER}) -ge {number} ] && exit 0; sleep 0.1; done; exit 1"
        fleet.on("ai", f"{killed}; {until}")
    assert well(fleet)
    fleet.on("ai", f"systemctl restart {SERVER}")
    assert well(fleet)


def test_another_account_opens_no_unix_socket_and_no_worker(fleet: LabFleet) -> None:
    question = json.dumps({"model": "demo", "prompt": "Hello", "max_tokens": 2})
    bearer = f"-H 'Authorization: Bearer {key(fleet)}' http://127.0.0.1:8080"
    assert "choices" in fleet.on("ai", f"curl -sS {bearer}/v1/completions -d '{question}'")
    (model,) = json.loads(fleet.on("ai", f"curl -sS {bearer}/models"))["data"]
    arguments = model["status"]["args"]
    worker = arguments[arguments.index("--port") + 1]
    for asked in (f"--unix-socket {SOCKET} http://a", "--unix-socket /run/paddock/admin.sock http://a", f"http://127.0.0.1:{worker}"):
        assert "curl: (7)" in fleet.on("ai", f"runuser -u nobody -- curl -sS -m 5 {asked}/health 2>&1", check=False)
    assert "curl: (7)" in fleet.on("ai", f"curl -sS -m 5 http://127.0.0.1:{worker}/health 2>&1", check=False)
    assert '"llama-server"' not in fleet.on("ai", "ss -Hltnp")


def test_no_request_has_a_server_call_another_host(fleet: LabFleet) -> None:
    address, port = fleet.host("other").address, 8000
    url = f"http://{address}:{port}/picture.png"
    with squatter(fleet, "other", port) as heard:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": content}], "max_tokens": 2})
        fleet.on("ai", f"curl -sS -m 20 -H 'Authorization: Bearer {key(fleet)}' http://127.0.0.1:8080/v1/chat/completions -d '{body}'")
        assert calls_out(fleet, url) != 0
        assert fleet.on("other", f"cat {heard}") == ""
        fleet.write(INVENTORY.replace("api_key: true", "api_key: true, egress: true"))
        said = fleet.up()
        assert "`egress` lets its servers connect to any machine" in said.stdout + said.stderr
        calls_out(fleet, url)
        assert "GET /picture.png" in fleet.on("other", f"cat {heard}")
    fleet.write(INVENTORY)
    fleet.up()
    assert "0 changed" in fleet.up().stdout


def calls_out(fleet: LabFleet, url: str) -> int:
    """How curl ends that is in the server's network, and is its user."""
    inside = f"nsenter --target $(systemctl show -P MainPID {SERVER}) --net --setuid $(id -u llama-server)"
    return int(fleet.on("ai", f"{inside} curl -s -m 5 -o /dev/null {url}; echo $?"))


def test_no_key_is_sent_to_who_has_taken_a_port(fleet: LabFleet) -> None:
    """Neither by what asks on the host nor by the operator's commands, nor by Caddy to the admin endpoint."""
    fleet.on("ai", f"systemctl stop {HELD} paddock-admin.socket")
    try:
        with squatter(fleet, "ai", 8080) as models, squatter(fleet, "ai", 8079) as admin:
            for verb in (("verify",), ("status",), ("models", "list"), ("chat", "Hello!")):
                fleet.paddock(verb[0], *verb[1:], "--lab")
            told = fleet.paddock("models", "list", "--lab")
            fleet.on("ai", "systemctl start paddock-watchdog", check=False)
            state = fleet.state / "export" / "boss"
            asked = f"--resolve ai.home.example:443:{fleet.host('ai').address} https://ai.home.example/paddock/admin/preset"
            fleet.on("ai", "mkdir -p /tmp/boss")
            for name in ("ca.pem", "cert.pem", "key.pem"):
                text = shlex.quote((state / name).read_text())
                fleet.on("ai", f"printf %s {text} >/tmp/boss/{name}")
            files = "--cacert /tmp/boss/ca.pem --cert /tmp/boss/cert.pem --key /tmp/boss/key.pem"
            assert "502" in fleet.on("ai", f"curl -s -o /dev/null -w '%{{http_code}}' -m 20 {files} {asked}")
            heard = fleet.on("ai", f"cat {models} {admin} 2>/dev/null || true")
        print(heard, told.stdout + told.stderr, flush=True)
        assert key(fleet) not in heard and key(fleet, "admin.ai") not in heard
        assert "is sent no key" in told.stdout + told.stderr
    finally:
        fleet.on("ai", "rm -rf /tmp/boss")
    time.sleep(0.5)
    fleet.up()
    assert well(fleet)

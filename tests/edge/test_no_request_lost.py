"""Clients ask through Caddy and through the gateway while `up` changes what runs: nobody is without an answer.

`box` has a server alone and two that stand in for each other, and one that does so with `far`'s; a gateway, and sites before all of them. Each
site gets five requests a second, every other of them a stream.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from edge_fleet import Door
from newer_caddy import newer_caddy
from under_load import Caller, asked

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=3)

LONG = 8_000
"""Tokens of an answer that takes longer than a drain."""


def inventory() -> dict[str, Any]:
    base = {"base": {"time": "elsewhere"}, "llama_cpp": {"ui": False}, "models": None}
    own = {"preset": {"threads": 1, "threads-batch": 1}, "drain_s": 10}
    apart = {"model": "apart", "listen": "0.0.0.0:8084"}
    return {
        "fleet": "nolost",
        "domain": "home.example",
        "networks": ["192.0.2.0/24"],
        "hosts": {
            "box": {
                "address": "192.0.2.10",
                "roles": {
                    **base,
                    "llama_server": {
                        **own,
                        "instances": {
                            "one": {"model": "alone", "listen": "127.0.0.1:8081"},
                            "two": {"model": "twice", "listen": "127.0.0.1:8082", "count": 2},
                            "apart": apart,
                        },
                    },
                    "gateway": {"listen": "127.0.0.1:8001", "queue": {"length": 1000, "per_user": 1000}},
                    "caddy": {
                        "package": newer_caddy(),
                        "sites": {
                            "one.home.example": {"upstream": "box/one"},
                            "two.home.example": {"upstream": "box/two"},
                            "apart.home.example": {"upstream": {"model": "apart"}},
                            "gate.home.example": {"upstream": {"gateway": "box"}},
                        },
                    },
                },
            },
            "far": {"address": "192.0.2.11", "roles": {**base, "llama_server": {**own, "instances": {"apart": apart}}}},
        },
        "models": {
            "alone": {"source": "tiny", "preset": {"ctx-size": 4096, "parallel": 4}},
            "twice": {"source": "tiny", "preset": {"ctx-size": 4096, "parallel": 4}},
            "apart": {"source": "tiny", "preset": {"ctx-size": 4096, "parallel": 4}},
        },
        "users": {"alice": None},
        "clients": {"laptop": None},
    }


@dataclass
class Lab:
    fleet: LabFleet
    inventory: dict[str, Any]
    callers: dict[str, Caller]

    def change(self, what: str, change: Callable[[], object]) -> None:
        """`change` while everybody asks: nobody is without an answer, and something did change."""
        with asked(self.callers) as heard:
            change()
        for name, each in heard.items():
            print(f"nolost: {what}: {name}: {each}", flush=True)
        assert not [failure for each in heard.values() for failure in each.failures]
        assert all(len(each.waits) > 10 for each in heard.values())

    def up(self) -> None:
        self.fleet.write(yaml.safe_dump(self.inventory))
        said = self.fleet.up().stdout
        assert not unchanged(said), said


def unchanged(said: str) -> bool:
    """Whether `up` says of `box` that nothing had to be done."""
    return re.search(r"^box +0 changed", said, re.MULTILINE) is not None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    declared = inventory()
    with lab_fleet("nolost", tmp_path_factory.mktemp("nolost"), yaml.safe_dump(declared), ready=True) as fleet:
        fleet.up()
        yield Lab(fleet, declared, dict(_callers(fleet)))


def _callers(fleet: LabFleet) -> Iterator[tuple[str, Caller]]:
    key = fleet.paddock("keys", "show", "alice", "--key", "--lab").stdout.strip()
    for name, model in (("one", "alone"), ("two", "twice"), ("apart", "apart"), ("gate", "alone"), ("gate", "twice")):
        door = Door(fleet, "box", fleet.host("box").address, f"{name}.home.example")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if name == "gate" else {})}
        yield f"{name} {model}", Caller(door, door.context(ssl.TLSVersion.TLSv1_3, door.identity("laptop")), model, headers)


def test_a_changed_preset_loses_no_request(lab: Lab) -> None:
    for model in lab.inventory["models"].values():
        model["preset"]["ctx-size"] = 6144
    lab.change("preset", lab.up)


def test_another_alias_loses_no_request(lab: Lab) -> None:
    lab.inventory["models"]["alone"]["aliases"] = ["only"]
    lab.change("alias", lab.up)


def test_other_certificates_lose_no_request(lab: Lab) -> None:
    def renew() -> None:
        done = lab.fleet.paddock("certs", "renew", "one.home.example", "two.home.example", "gate.home.example", "--lab")
        assert done.returncode == 0, done.stdout + done.stderr

    lab.change("certificates", renew)


def test_another_configuration_of_caddy_loses_no_request(lab: Lab) -> None:
    for site in lab.inventory["hosts"]["box"]["roles"]["caddy"]["sites"].values():
        site["body_limit_mib"] = 64
    lab.change("caddy", lab.up)


def test_restarts_lose_no_request_whoever_makes_them(lab: Lab) -> None:
    def restart() -> None:
        done = lab.fleet.paddock("restart", "box", "--lab")
        assert done.returncode == 0, done.stdout + done.stderr

    lab.change("restart", restart)
    lab.change("restart by hand", lambda: lab.fleet.on("box", "systemctl restart llama-server-one llama-server-two-1"))


def test_an_answer_that_takes_too_long_is_ended_and_a_run_that_is_killed_meanwhile_leaves_no_server_that_nobody_reaches(lab: Lab) -> None:
    """The host's shell is killed while the server waits for the answer to end: systemd goes on with the restart."""
    fleet, socket = lab.fleet, "/run/llama-server/llama-server-one/http.sock"
    open_socket = socket.replace("http", "open")
    ask = f"curl -sS -m 5 --unix-socket /run/paddock/llama-server-one.sock http://localhost/v1/completions -d '{BODY}'"
    endless = json.dumps({"prompt": "Hello", "max_tokens": LONG, "ignore_eos": True, "stream": True})
    long = f"systemd-run -q curl -sS --unix-socket /run/paddock/llama-server-one.sock http://localhost/v1/completions -d '{endless}'"
    fleet.on("box", long)
    lab.inventory["models"]["alone"]["preset"]["ctx-size"] = 8192
    fleet.write(yaml.safe_dump(lab.inventory))
    run = fleet.start("up", "--lab", "--yes")
    fleet.on("box", f"for i in $(seq 600); do [ -S {socket}.drained ] && exit 0; sleep 0.1; done; exit 1")
    run.kill()
    fleet.on(
        "box",
        "for each in $(find /proc/[0-9]*/fd -lname /run/paddock/lock | cut -d/ -f3 | sort -u); do kill -KILL $each 2>/dev/null || true; done",
    )
    run.wait()
    fleet.on("box", f"for i in $(seq 60); do [ -S {open_socket} ] && exit 0; sleep 1; done; exit 1")
    assert "text_completion" in fleet.on("box", f"for i in $(seq 20); do {ask} && exit 0; sleep 1; done; exit 1")
    lab.change("after a kill", lab.up)
    assert unchanged(fleet.up().stdout)


BODY = json.dumps({"prompt": "Hello", "max_tokens": 2})

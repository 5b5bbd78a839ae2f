"""Clients ask through Caddy and through the gateway while `up` changes what runs: nobody is without an answer.

`box` has a server alone and two that stand in for each other, and one that does so with `far`'s; a gateway, and sites before all of them. Each
site gets five requests a second, every other of them a stream.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from edge_fleet import Door
from newer_caddy import newer_caddy

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=3)

PAUSE_S = 0.2
"""Between two requests at one site."""

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
class Heard:
    """What clients heard at one site with one model: how long each answer took, in seconds, and what was none."""

    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: int = 0
    """How often a connection ended before anything was answered, and the request was sent again, as clients do."""

    def __str__(self) -> str:
        return (
            f"{len(self.waits)} answered, the longest in {max(self.waits, default=0):.1f} s, {self.repeated} repeated, {self.failures[:3]}"
        )


@dataclass(frozen=True)
class Caller:
    """Asks at one site for one model."""

    door: Door
    context: ssl.SSLContext
    model: str
    headers: dict[str, str]

    def ask(self, stream: bool, heard: Heard) -> None:
        begun = time.monotonic()
        try:
            try:
                self._once(stream)
            except http.client.RemoteDisconnected:
                heard.repeated += 1
                self._once(stream)
            heard.waits.append(time.monotonic() - begun)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            heard.failures.append(f"after {time.monotonic() - begun:.1f} s: {error!r}"[:300])
            print(f"nolost: {time.time():.2f} {self.door.site} {self.model}: {heard.failures[-1]}", flush=True)

    def _once(self, stream: bool) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 48 if stream else 4, "stream": stream}
        status, said = self.door.ask("POST", "/v1/chat/completions", self.context, self.headers, json.dumps(body).encode())
        whole = b"data: [DONE]" in said if stream else b"chat.completion" in said
        assert status == 200 and whole, f"{status} {said[-200:]!r}"


@contextmanager
def asked(callers: dict[str, Caller]) -> Iterator[dict[str, Heard]]:
    """Each caller asks five times a second for as long as this lasts."""
    heard, over = {name: Heard() for name in callers}, threading.Event()

    def ask(name: str) -> None:
        running, number = [], 0
        while not over.wait(PAUSE_S):
            number += 1
            running.append(threading.Thread(target=callers[name].ask, args=(number % 2 == 0, heard[name]), daemon=True))
            running[-1].start()
        for each in running:
            each.join(300)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in callers]
    for each in threads:
        each.start()
    time.sleep(2)
    try:
        yield heard
        time.sleep(2)
    finally:
        over.set()
        for each in threads:
            each.join(600)


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


def test_an_answer_that_takes_too_long_is_ended_and_a_run_that_is_killed_meanwhile_leaves_no_server_that_nobody_reaches(lab: Lab) -> None:
    """The host's shell is killed while it waits for the answer to end: systemd lets callers in again."""
    fleet, socket = lab.fleet, "/run/llama-server/llama-server-one/http.sock"
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
    assert fleet.on("box", f"ls {socket}.drained").strip()
    fleet.on("box", f"for i in $(seq 60); do [ -S {socket} ] && exit 0; sleep 1; done; exit 1")
    assert "text_completion" in fleet.on("box", f"for i in $(seq 20); do {ask} && exit 0; sleep 1; done; exit 1")
    lab.change("after a kill", lab.up)
    assert unchanged(fleet.up().stdout)


BODY = json.dumps({"prompt": "Hello", "max_tokens": 2})

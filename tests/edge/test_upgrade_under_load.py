"""Clients ask through Caddy and through the gateway while hosts go from one llama.cpp to another, months apart, and back: from a source
distribution of PyPI to the packages of Debian's unstable suite. Nobody is without an answer.

`one` has a router and a server that are alone, and one that stands in for `two`'s. `door` has both ways in.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from edge_fleet import Door
from newer_caddy import newer_caddy
from under_load import PAUSE_S, Caller, asked

from tests.lab_fleet import LabFleet, give_releases, lab_fleet
from tests.share import WHOLE, turn

pytestmark = turn(3, of=5)

SOAK_S = 180 if WHOLE else 5

SERVING = ("one", "two")

MODEL = {"source": "tiny", "preset": {"ctx-size": 4096, "parallel": 4}}
PAIR = {"model": "pair", "listen": "0.0.0.0:8084"}

CANDIDATES = "apt-get -qq update; apt-cache policy llama.cpp-tools libggml0 | sed -n 's/^ *Candidate: //p'"
CURRENT = "basename $(readlink /opt/paddock/llama.cpp/current)"


def inventory() -> dict[str, Any]:
    base, own = {"base": {"time": "elsewhere"}}, {"preset": {"threads": 1, "threads-batch": 1}}
    alone = {"model": "alone", "listen": "0.0.0.0:8081"}
    servers = {
        "one": {**own, "listen": "0.0.0.0:8080", "models": ["routed"], "instances": {"alone": alone, "pair": PAIR}},
        "two": {**own, "instances": {"pair": PAIR}},
    }
    sites = {"alone": "one/alone", "pair": {"model": "pair"}, "routed": "one", "gate": {"gateway": "door"}}
    doors = {
        "gateway": {"listen": "127.0.0.1:8001", "upstream": ["one", "two/pair"], "queue": {"length": 1000, "per_user": 1000}},
        "caddy": {
            "package": newer_caddy(),
            "sites": {f"{name}.home.example": {"upstream": upstream} for name, upstream in sites.items()},
        },
    }
    return {
        "fleet": "underload",
        "domain": "home.example",
        "networks": ["192.0.2.0/24"],
        "hosts": {
            "door": {"address": "192.0.2.10", "roles": {**base, **doors}},
            **{
                name: {
                    "address": f"192.0.2.{11 + number}",
                    "lab": {"suite": "sid"},
                    "roles": {**base, "llama_cpp": {"ui": False}, "models": None, "llama_server": each},
                }
                for number, (name, each) in enumerate(servers.items())
            },
        },
        "models": dict.fromkeys(("alone", "pair", "routed"), MODEL),
        "users": {"alice": None},
        "clients": {"laptop": None},
    }


@dataclass
class Lab:
    fleet: LabFleet
    inventory: dict[str, Any]
    packages: dict[str, str]
    callers: dict[str, Caller] = field(default_factory=dict)

    def source(self, source: dict[str, str]) -> None:
        """What the inventory says of both hosts' llama.cpp."""
        for host in SERVING:
            self.inventory["hosts"][host]["roles"]["llama_cpp"] = {"ui": False, **({"source": source} if source else {})}
        self.fleet.write(yaml.safe_dump(self.inventory))

    def change(self, what: str, version: str, *command: str) -> None:
        """Both hosts serve this version after the command, and nobody was without an answer meanwhile."""
        with asked(self.callers) as heard:
            began = time.monotonic()
            done = self.fleet.paddock(*command, "--lab", "--yes", timeout_s=3000)
            took_s = time.monotonic() - began
        print(done.stdout, done.stderr, f"load: {what}: {took_s:.1f} s", flush=True)
        for name, each in heard.items():
            print(f"load: {what}: {name}: {each}", flush=True)
        assert done.returncode == 0
        assert all(self.fleet.on(host, CURRENT).startswith(version) for host in SERVING)
        assert not [failure for each in heard.values() for failure in each.failures]
        assert all(len(each.waits) > 10 for each in heard.values())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    declared = inventory()
    with lab_fleet("underload", tmp_path_factory.mktemp("underload"), yaml.safe_dump(declared)) as fleet:
        give_releases(fleet)
        fleet.up()
        llama, ggml = fleet.on("one", CANDIDATES).split()
        lab = Lab(fleet, declared, {"packages": llama, "ggml": ggml})
        lab.callers.update(_callers(fleet))
        yield lab


def _callers(fleet: LabFleet) -> Iterator[tuple[str, Caller]]:
    key = fleet.paddock("keys", "show", "alice", "--key", "--lab").stdout.strip()
    at_caddy, at_the_gateway = [(name, name) for name in ("alone", "pair", "routed")], [("gate", name) for name in ("alone", "pair")]
    for name, model in (*at_caddy, *at_the_gateway):
        pause_s = PAUSE_S * len(at_the_gateway if name == "gate" else at_caddy)
        door = Door(fleet, "door", fleet.host("door").address, f"{name}.home.example")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if name == "gate" else {})}
        yield f"{name} {model}", Caller(door, door.context(ssl.TLSVersion.TLSv1_3, door.identity("laptop")), model, headers, pause_s)


def of_packages(lab: Lab) -> str:
    """`0.7.0`"""
    found = re.search(r":([0-9.]+)", lab.packages["packages"])
    assert found
    return found[1]


def test_an_upgrade_to_packages_loses_no_request(lab: Lab) -> None:
    lab.source(lab.packages)
    lab.change("upgrade", of_packages(lab), "upgrade", "--no-measure", "--soak", str(SOAK_S))


def test_a_rollback_loses_no_request(lab: Lab) -> None:
    lab.change("rollback", "0.3.36", "rollback")


@pytest.mark.skipif(not WHOLE, reason="the same way once more, and back: make soak")
def test_an_upgrade_after_a_rollback_loses_no_request(lab: Lab) -> None:
    lab.change("upgrade again", of_packages(lab), "upgrade", "--soak", str(SOAK_S))


@pytest.mark.skipif(not WHOLE, reason="the same way once more, and back: make soak")
def test_an_upgrade_to_what_is_compiled_loses_no_request(lab: Lab) -> None:
    lab.source({})
    lab.change("upgrade back", "0.3.36", "upgrade", "--soak", str(SOAK_S))

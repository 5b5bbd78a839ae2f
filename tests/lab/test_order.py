"""A role begins on no host before the one it stands on is ready on all: seen in the hosts' own records, whatever has to be mended where.

All containers share one kernel, and so one clock.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import pytest
import yaml
from conftest import DEMO
from snapshot import inside

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import each_kind, turn

pytestmark = turn(3, of=5)

HOSTS = ("one", "two", "three")
UPSTREAMS = {"one": "two", "two": "three", "three": "three"}
"""Whose llama-server each host's Caddy passes requests on to."""

SERVER, PROXY = "llama_server", "caddy"
FILES = {SERVER: "/etc/paddock/llama-server/presets.ini", PROXY: "/etc/caddy/paddock/sites.caddy"}
UNITS = {SERVER: "llama-server.service", PROXY: "caddy.service"}

Part = tuple[str, str]
"""A host and a role."""

PARTS: tuple[Part, ...] = tuple(product(HOSTS, (SERVER, PROXY)))
COMBINATIONS = [
    frozenset(part for part, drifts in zip(PARTS, bits, strict=True) if drifts) for bits in product((False, True), repeat=len(PARTS))
]
CHOSEN = each_kind("combinations", COMBINATIONS, lambda drifted: [len(drifted)], lambda drifted: product(drifted, drifted))
"""Any number of parts, and any two of them together."""

TICK_S = 0.01
"""A file's time is that of the kernel's last tick: it may be so much too early."""


@dataclass(frozen=True)
class Record:
    """When a role's file came to lie where it lies, and when its service left off being stopped and was up, in seconds since 1970."""

    landed: float
    began: float
    up: float
    invocation: str

    @property
    def first(self) -> float:
        return min(self.landed, self.began)

    @property
    def last(self) -> float:
        return max(self.landed, self.up)


@dataclass(frozen=True)
class Order:
    """The fleet, and each host's container."""

    fleet: LabFleet
    containers: Mapping[str, str]

    def on(self, host: str, script: str) -> str:
        return inside(self.containers[host], script)

    def on_all(self, scripts: Mapping[str, str]) -> dict[str, str]:
        """What each host's script prints, by host; all at once."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(scripts, pool.map(lambda host: self.on(host, scripts[host]), scripts), strict=True))

    def drift(self, parts: Collection[Part]) -> Mapping[Part, Record]:
        """Alters the file of each of these roles and stops its service. Gives how all was before."""
        return _records(self.on_all({host: "\n".join([READ, *(_drift(role) for name, role in parts if name == host)]) for host in HOSTS}))

    def records(self) -> Mapping[Part, Record]:
        return _records(self.on_all(dict.fromkeys(HOSTS, READ)))

    def states(self) -> Mapping[Part, str]:
        read = self.on_all(dict.fromkeys(HOSTS, f"systemctl show -P ActiveState {UNITS[SERVER]} {UNITS[PROXY]}"))
        return {(host, role): state for host, text in read.items() for role, state in zip((SERVER, PROXY), text.split(), strict=True)}


def _drift(role: str) -> str:
    return f"systemctl stop {UNITS[role]}; echo '# altered' >>{FILES[role]}"


READ = "\n".join(
    f"stat -c %.9Z {FILES[role]}; systemctl show --timestamp=us+utc -P InactiveExitTimestamp -P ActiveEnterTimestamp -P InvocationID {UNITS[role]}"
    for role in (SERVER, PROXY)
)


def _records(read: Mapping[str, str]) -> Mapping[Part, Record]:
    found = {}
    for host, text in read.items():
        lines = [line for line in text.splitlines() if line]
        for role, (landed, *times, invocation) in zip((SERVER, PROXY), (lines[:4], lines[4:]), strict=True):
            began, up = sorted(datetime.strptime(time, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=UTC).timestamp() for time in times)
            found[host, role] = Record(float(landed), began, up, invocation)
    return found


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Order]:
    inventory = yaml.safe_load(DEMO.read_text())
    roles = inventory["hosts"].pop("ai")["roles"]
    inventory["fleet"] = "order"
    for number, host in enumerate(HOSTS, 1):
        server = {"models": ["demo"], "listen": "0.0.0.0:8080"}
        proxy = {"sites": {f"{host}.home.example": {"upstream": UPSTREAMS[host]}}}
        inventory["hosts"][host] = {"address": f"192.0.2.{number}", "roles": {**roles, SERVER: server, PROXY: proxy}}
    with lab_fleet("order", tmp_path_factory.mktemp("order"), yaml.safe_dump(inventory, sort_keys=False), ready=True) as fleet:
        print("order: the first up", flush=True)
        print(fleet.up().stdout.partition("\n\nchat:")[0][-1500:], flush=True)
        yield Order(fleet, {host: fleet.host(host).container for host in HOSTS})


@pytest.mark.parametrize(
    "drifted", CHOSEN, ids=lambda drifted: " ".join(f"{host}:{role}" for host, role in PARTS if (host, role) in drifted) or "nothing"
)
def test_no_proxy_is_touched_before_every_server_is_ready(order: Order, drifted: frozenset[Part]) -> None:
    before = order.drift(drifted)
    done = order.fleet.up("--no-verify")
    after = order.records()
    for host in HOSTS:
        well = not any(name == host for name, _ in drifted)
        assert bool(re.search(rf"^{host} +0 changed", done.stdout, re.MULTILINE)) == well, done.stdout
    for part in PARTS:
        if part in drifted:
            assert after[part].invocation != before[part].invocation
        else:
            assert after[part] == before[part], f"{part} was well, and was touched"
    servers = [after[part].last for part in drifted if part[1] == SERVER]
    proxies = [after[part].first for part in drifted if part[1] == PROXY]
    if servers and proxies:
        print(f"the first proxy was touched {(min(proxies) - max(servers)) * 1000:.1f} ms after the last server was up", flush=True)
        assert max(servers) < min(proxies) + TICK_S


def test_a_host_that_fails_stops_what_needs_it_and_nothing_else(order: Order) -> None:
    order.drift(PARTS)
    drifted = order.records()
    squat = "systemd-run --quiet --unit=squatter systemd-socket-activate -l 127.0.0.1:8080 /bin/cat"
    order.on("two", f"systemctl stop paddock-proxy-llama-server.socket; {squat}")
    try:
        done = order.fleet.paddock("up", "--lab", "--yes")
        after, states = order.records(), order.states()
    finally:
        order.on("two", "systemctl stop squatter")
    told = done.stdout + done.stderr
    print(told, flush=True)
    assert done.returncode == 1
    assert "two: port 8080/tcp, which paddock-proxy-llama-server.socket is to listen on, is taken by squatter.service" in told
    assert "one: caddy: was not started: it needs two, which failed" in told
    assert states["one", SERVER] == "active", "it needs nobody"
    assert (states["one", PROXY], after["one", PROXY]) == ("inactive", drifted["one", PROXY]), "its upstream is not ready"
    assert (states["two", PROXY], after["two", PROXY]) == ("inactive", drifted["two", PROXY]), "the host had failed"
    assert (states["three", SERVER], states["three", PROXY]) == ("active", "active"), "it needs only itself"

    order.fleet.up()
    assert set(order.states().values()) == {"active"}

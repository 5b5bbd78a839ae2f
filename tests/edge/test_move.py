"""A llama-server moves to another host while clients ask: nobody is without an answer, also where the run fails or dies on its way."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from edge_fleet import Door, Stream
from newer_caddy import newer_caddy

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(3, of=5)

PAUSE_S = 0.05
SERVER = {"listen": "0.0.0.0:8080", "models": ["demo"], "instances": {"fixed": {"model": "small", "listen": "0.0.0.0:8090"}}}
SITES = {"door.home.example": ("", "demo"), "fixed.home.example": ("/fixed", "small")}
"""By site which of the servers of a host it leads to, and the model that clients ask for there."""
STILL = "still.home.example"
"""A site of a server that stays where it is, and answers without end."""


def inventory(serving: str) -> str:
    """The servers are on one of two hosts, each with a firewall, and the door leads there. Another host's server stays."""
    has = {"llama_cpp": {"ui": False}, "models": None}
    serves = {**has, "llama_server": SERVER}
    base = {"base": {"time": "elsewhere"}}
    hosts = {
        name: {"address": f"192.0.2.{at}", "roles": {**base, "firewall": None, **(serves if name == serving else {})}}
        for at, name in enumerate(("left", "right"), 10)
    }
    still = {"address": "192.0.2.13", "roles": {**base, **has, "llama_server": {"listen": "0.0.0.0:8080", "models": ["endless"]}}}
    sites = {STILL: {"upstream": "still"}, **{site: {"upstream": f"{serving}{group}"} for site, (group, _) in SITES.items()}}
    caddy = {"package": newer_caddy(), "sites": sites}
    preset = {"preset": {"ctx-size": 1024}}
    return yaml.safe_dump(
        {
            "fleet": "move",
            "domain": "home.example",
            "networks": ["192.0.2.0/24"],
            "hosts": {**hosts, "still": still, "door": {"address": "192.0.2.12", "roles": {**base, "caddy": caddy}}},
            "models": {"demo": preset, "small": preset, "endless": {"preset": {"ctx-size": 524288, "parallel": 1, "ignore-eos": True}}},
            "clients": {"laptop": None},
        }
    )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("move", tmp_path_factory.mktemp("move"), inventory("left"), ready=True) as fleet:
        fleet.up()
        yield fleet


@contextmanager
def asking(fleet: LabFleet) -> Iterator[Counter[str]]:
    """A client asks at each site for as long as this lasts. What it hears, and how often: `200`, or what else it was."""
    heard, over = Counter[str](), threading.Event()
    doors = [Door(fleet, "door", fleet.host("door").address, site) for site in SITES]
    doors[0].identity("laptop")  # which is taken away once
    threads = [threading.Thread(target=_ask, args=(door, heard, over), daemon=True) for door in doors]
    for each in threads:
        each.start()
    try:
        yield heard
    finally:
        over.set()
        for each in threads:
            each.join(60)


def _ask(door: Door, heard: Counter[str], over: threading.Event) -> None:
    site = door.site
    context = door.context(ssl.TLSVersion.TLSv1_3, door.identity("laptop"))
    body = json.dumps({"model": SITES[site][1], "prompt": "Hello", "max_tokens": 4}).encode()

    def once() -> tuple[int, bytes]:
        return door.ask("POST", "/v1/completions", context, {"Content-Type": "application/json"}, body)

    while not over.is_set():
        try:
            try:
                status, answer = once()
            except http.client.RemoteDisconnected:  # A reload of Caddy may do that: docs/decisions/removals-come-late.md.
                print(f"move: {time.time():.2f} {site}: closed before the answer, asked again", flush=True)
                status, answer = once()
            said = str(status) if status == 200 and b"text_completion" in answer else f"{site}: {status} {answer[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            said = f"{site}: {error!r}"
        heard[said] += 1
        if said != "200":
            print(f"move: {time.time():.2f} {said}", flush=True)
        time.sleep(PAUSE_S)


def serving(fleet: LabFleet, host: str) -> bool:
    return "active" in fleet.on(host, "systemctl is-active llama-server llama-server-fixed || true").split()


@contextmanager
def streaming(fleet: LabFleet) -> Iterator[Stream]:
    """A client reads an answer that goes on for longer than this, no faster than its server is to compute beside all else."""
    door = Door(fleet, "door", fleet.host("door").address, STILL)
    stream = Stream(door.connect(door.context(ssl.TLSVersion.TLSv1_3, door.identity("laptop"))), pause_s=0.2)
    threading.Thread(target=stream.read, daemon=True).start()
    try:
        assert stream.begun.wait(300)
        yield stream
    finally:
        stream.connection.close()


def hop_to_still(fleet: LabFleet) -> set[str]:
    """The connections of the door's hop to the server that stays, each by its port."""
    return set(fleet.on("door", f"ss -Htn state established 'dst {fleet.host('still').address}:8080' | awk '{{print $3}}'").split())


def whole(fleet: LabFleet, host: str) -> list[str]:
    """What the server on a host would need to be started again."""
    needed = (
        "/etc/systemd/system/llama-server.service /etc/paddock/llama-server/presets.ini /opt/paddock/llama.cpp/current/bin/llama-server"
    )
    return fleet.on(host, f"ls {needed} 2>/dev/null || true").split()


def test_no_request_fails_while_the_servers_move_to_another_host_and_back(fleet: LabFleet) -> None:
    for before, after in (("left", "right"), ("right", "left")):
        fleet.write(inventory(after))
        with asking(fleet) as heard:
            fleet.up()
        print(f"move: {before} to {after}: {dict(heard)}", flush=True)
        assert heard["200"] > 10 and set(heard) == {"200"}
        assert serving(fleet, after) and not serving(fleet, before)
        assert not whole(fleet, before)
        assert "8080" not in fleet.on(before, "nft list table inet paddock")
        assert "0 changed" in fleet.up().stdout


def test_a_stream_goes_on_while_hops_to_other_hosts_come_and_go(fleet: LabFleet) -> None:
    with streaming(fleet) as stream:
        before = hop_to_still(fleet)
        for after in ("right", "left"):
            fleet.write(inventory(after))
            fleet.up("--no-verify")
        size = stream.size
        assert before and before <= hop_to_still(fleet)
        assert not stream.ended.wait(2) and stream.size > size
    units = fleet.on("door", "systemctl list-units -q --plain --no-legend 'paddock-caddy-tunnel*' | cut -d' ' -f1").split()
    hops = ("left.8080", "left.8090", "still.8080")
    assert sorted(units) == sorted(f"paddock-caddy-tunnel-{hop}.{kind}" for hop in hops for kind in ("service", "socket"))


def test_where_the_proxy_fails_the_old_servers_stay_whole_and_the_next_run_takes_them_away(fleet: LabFleet) -> None:
    fleet.on(
        "door",
        "mv /usr/bin/caddy /usr/bin/caddy.away; printf '#!/bin/sh\\necho broken; exit 1\\n' >/usr/bin/caddy; chmod 755 /usr/bin/caddy",
    )
    fleet.write(inventory("right"))
    try:
        with asking(fleet) as heard:
            failed = fleet.paddock("up", "--lab", "--yes")
    finally:
        fleet.on("door", "mv /usr/bin/caddy.away /usr/bin/caddy")
    assert failed.returncode == 1
    told = "left: removals: what left the inventory stays until the next `up`: requests may still come from door, which failed"
    assert told in failed.stderr, failed.stderr
    assert set(heard) == {"200"}
    assert serving(fleet, "right") and serving(fleet, "left")
    assert len(whole(fleet, "left")) == 3
    assert "8080" in fleet.on("left", "nft list table inet paddock"), "nobody else may ask it meanwhile"
    fleet.up()
    assert not serving(fleet, "left") and not whole(fleet, "left")


def test_a_run_that_dies_once_the_new_servers_are_up_leaves_the_old_ones_and_the_next_run_ends_it(fleet: LabFleet) -> None:
    fleet.write(inventory("left"))
    with asking(fleet) as heard:
        run = fleet.start("up", "--lab", "--yes")
        assert run.stdout
        told = next((line for line in run.stdout if line.split()[:1] == ["left"] and "llama_server: services" in line), "")
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert told, "it ended before the servers were up"
        assert serving(fleet, "right") and len(whole(fleet, "right")) == 3
        fleet.up()
    print(f"move: with a kill: {dict(heard)}", flush=True)
    assert set(heard) == {"200"}
    assert serving(fleet, "left") and not serving(fleet, "right")

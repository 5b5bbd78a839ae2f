"""What the tunnel between a reverse proxy and a server of another host costs a request, beside the same way in clear text.

    python -m tests.bench.hop [PAIRS]

Three lab hosts: a reverse proxy with two sites, a server behind a tunnel and one with `encrypted: false`. First it measures how many
requests a second the site in clear text answers. Then it sends half as many, in pairs: the same request to both sites, in either order. It
prints milliseconds and asserts nothing but that all are answered.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli.views.table import table
from tests.bench.__main__ import machine
from tests.lab_fleet import LabFleet, lab_fleet

INVENTORY = """
fleet: hopbench
domain: home.example
defaults: {roles: {base: {time: elsewhere}}}
hosts:
  door: {address: 192.0.2.2, roles: {caddy: {sites: {sealed.home.example: {upstream: sealed}, clear.home.example: {upstream: clear}}}}}
  sealed:
    address: 192.0.2.10
    roles: {llama_cpp: {ui: false}, models: , firewall: , llama_server: {listen: "0.0.0.0:8080", models: [demo]}}
  clear:
    address: 192.0.2.11
    roles: {llama_cpp: {ui: false}, models: , firewall: , llama_server: {listen: "0.0.0.0:8080", models: [demo], encrypted: false}}
models: {demo: {source: tiny, preset: {ctx-size: 1024, threads: 1, threads-batch: 1}}}
clients: {laptop: {admin: true}}
"""
SITES = ("clear.home.example", "sealed.home.example")
PAIRS, CALLERS, CAPACITY_S, WARMING = 500, 4, 5.0, 40
REQUESTS = {"GET /health": None, "a completion of 8 tokens": {"model": "demo", "prompt": "Once upon a time", "max_tokens": 8, "seed": 1}}

Took = list[tuple[float, float]]
"""Seconds of a request in clear text, and of the same request through the tunnel."""


class Caller(threading.local):
    """A connection to each site for each thread, which stays open."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.sites = {site: _Site(site, address, context) for site in SITES}

    def ask(self, site: str, body: object) -> float:
        """Seconds from the first byte sent to the last one received."""
        connection, began = self.sites[site], time.perf_counter()
        if body is None:
            connection.request("GET", "/health")
        else:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return time.perf_counter() - began


class _Site(http.client.HTTPSConnection):
    def __init__(self, name: str, address: str, context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=60, context=context)
        self._create_connection = lambda to, *rest: _connected((address, to[1]), *rest)  # type: ignore[attr-defined]


_connected = http.client.socket.create_connection  # type: ignore[attr-defined]


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch, lab_fleet("hopbench", Path(scratch), INVENTORY, ready=True) as lab:
        print("deploying", flush=True)
        lab.up("--no-verify")
        caller = Caller(lab.host("door").address, _context(lab))
        rows = [("", "requests/s", "clear text", "tunnel", "median of the differences", "95 % of requests: clear text", "tunnel")]
        for name, body in REQUESTS.items():
            for site in SITES * WARMING:
                caller.ask(site, body)
            rate = _capacity(caller, body) / 2
            rows.append((name, f"{rate:.0f}", *_row(_paired(caller, body, rate, pairs))))
    print(table(rows))
    print(f"{pairs} pairs each, at half of what the site in clear text answers; milliseconds. {machine(0)}")


def _context(lab: LabFleet) -> ssl.SSLContext:
    assert lab.paddock("certs", "export", "laptop", "--lab").returncode == 0
    files = lab.state / "export" / "laptop"
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    return context


def _capacity(caller: Caller, body: object) -> float:
    """Requests a second, of as many callers as there are threads, each of which asks again once it is answered."""
    ends = time.perf_counter() + CAPACITY_S

    def asked(_: int) -> int:
        number = 0
        while time.perf_counter() < ends:
            caller.ask(SITES[0], body)
            number += 1
        return number

    with ThreadPoolExecutor(CALLERS) as threads:
        return sum(threads.map(asked, range(CALLERS))) / CAPACITY_S


def _paired(caller: Caller, body: object, rate: float, pairs: int) -> Took:
    """Pairs of requests, sent when it is time and not when the one before is answered."""
    began, order = time.perf_counter(), random.Random(1)

    def sent(number: int, ask: Callable[[str, object], float] = caller.ask) -> tuple[float, float]:
        took = {}
        for at, site in enumerate(order.sample(SITES, 2)):
            time.sleep(max(0.0, began + (2 * number + at) / rate - time.perf_counter()))
            took[site] = ask(site, body)
        return took[SITES[0]], took[SITES[1]]

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(sent, range(pairs)))


def _row(took: Took) -> Sequence[str]:
    clear, sealed = ([1000 * each[at] for each in took] for at in (0, 1))
    difference = statistics.median(there - here for here, there in zip(clear, sealed, strict=True))
    late = (statistics.quantiles(each, n=20)[-1] for each in (clear, sealed))
    return f"{statistics.median(clear):.2f}", f"{statistics.median(sealed):.2f}", f"{difference:+.2f}", *(f"{each:.2f}" for each in late)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)

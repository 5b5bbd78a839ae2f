"""Real llama-servers for the gateway: of a lab host, at addresses of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.hosts import ssh_command
from tests import calling_model
from tests.gateway.process import free_port, wait_for
from tests.lab_fleet import LabFleet, lab_fleet

SLOTS = 4

INVENTORY = """\
fleet: slots
domain: home.example

hosts:
  box:
    address: 192.0.2.10
    roles:
      base:
      llama_cpp:
        source: {sdist: llama-cpp-python==0.3.36}
        ui: false
      models:
      llama_server:
        api_key: false
        preset: {threads: 1, threads-batch: 1}
        instances:
          one: {model: tiny, listen: 127.0.0.1:8081}
          two: {model: tiny, listen: 127.0.0.1:8082}
          calling: {model: calling, listen: 127.0.0.1:8083}
          embed: {model: embed, listen: 127.0.0.1:8084}
          sleepy: {model: tiny, listen: 127.0.0.1:8085, preset: {ctx-size: 4096, parallel: 1, sleep-idle-seconds: 2}}

models:
  tiny:
    source: tiny
    preset: {ctx-size: 16384, parallel: 4, cache-ram: 0}
  calling:
    source: tiny    # until calling_model.put
    preset: {ctx-size: 32768, parallel: 2, cache-ram: 0}
  embed:
    source: tiny
    preset: {ctx-size: 2048, parallel: 1, embeddings: true, pooling: mean}
"""

PORTS = {"one": 8081, "two": 8082, "calling": 8083, "embed": 8084, "sleepy": 8085}


@dataclass
class Llama:
    """`urls` by server: `one` and `two` are replicas of the model `tiny` with SLOTS slots each, `calling` (2 slots) thinks, speaks and
    calls tools whatever it is asked (tests/calling_model.py), `embed` makes vectors, `sleepy` is another `tiny` that sleeps when nobody has
    asked it for 2 s. None has a key."""

    fleet: LabFleet
    urls: dict[str, str]

    def on(self, script: str, *, check: bool = True) -> str:
        """What a shell script prints on the host."""
        return self.fleet.on("box", script, check=check)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """A gateway's, before all of them but `sleepy`: models `tiny` (two replicas, alias `default`), `calling` and `embed`."""
        return {
            "backends": {name: {"url": url} for name, url in self.urls.items() if name != "sleepy"},
            "models": {
                "tiny": {"targets": [{"backend": name, "model": "tiny"} for name in ("one", "two")], "aliases": ["default"]},
                "calling": {"targets": [{"backend": "calling", "model": "calling"}], "aliases": ["tiny-calls.Q4_0.gguf"]},
                "embed": {"targets": [{"backend": "embed", "model": "embed"}]},
            },
            **more,
        }


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    directory = tmp_path_factory.mktemp("slots")
    with lab_fleet("slots", directory, INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        calling_model.put(fleet, "box")
        here = {name: free_port() for name in PORTS}
        ways = [f"-L127.0.0.1:{here[name]}:127.0.0.1:{there}" for name, there in PORTS.items()]
        tunnel = subprocess.Popen([*ssh_command(fleet.host("box")), "-N", *ways], stdin=subprocess.DEVNULL)
        try:
            urls = {name: f"http://127.0.0.1:{port}" for name, port in here.items()}
            for url in urls.values():
                wait_for(f"{url}/health", tunnel, within_s=60)
            yield Llama(fleet, urls)
        finally:
            tunnel.terminate()
            tunnel.wait()

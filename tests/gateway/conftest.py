"""Real llama-servers for the gateway: of a lab host, at addresses of this machine. And a real Postgres."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lab.hosts import ssh_command
from tests import calling_model
from tests.gateway import agent_model
from tests.gateway.process import free_port, wait_for
from tests.lab_fleet import LabFleet, lab_fleet
from tests.postgres import Postgres, running_postgres

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
        listen: 127.0.0.1:8089
        models: [tiny, calling]
        models_max: 1
        instances:
          one: {model: tiny, listen: 127.0.0.1:8081}
          two: {model: tiny, listen: 127.0.0.1:8082}
          calling: {model: calling, listen: 127.0.0.1:8083}
          embed: {model: embed, listen: 127.0.0.1:8084}
          sleepy: {model: tiny, listen: 127.0.0.1:8085, preset: {ctx-size: 4096, parallel: 1, sleep-idle-seconds: 2}}
          pi: {model: pi, listen: 127.0.0.1:8086}
          claude: {model: claude, listen: 127.0.0.1:8087}
          long: {model: long, listen: 127.0.0.1:8088}

models:
  tiny:
    source: tiny
    preset: {ctx-size: 16384, parallel: 4, cache-ram: 0}
  calling:
    source: tiny    # until `put`
    preset: {ctx-size: 32768, parallel: 2, cache-ram: 0}
  pi:
    source: tiny
    preset: &agents {ctx-size: 524288, parallel: 2, cache-ram: 0, override-kv: 'llama.context_length=int:262144', logit-bias: 2+10}
  claude:
    source: tiny
    preset: *agents
  embed:
    source: tiny
    preset: {ctx-size: 2048, parallel: 1, embeddings: true, pooling: mean}
  long:
    source: tiny
    preset: {ctx-size: 65536, parallel: 2, batch-size: 64, ubatch-size: 64, cache-ram: 0}
"""

PORTS = {"one": 8081, "two": 8082, "calling": 8083, "embed": 8084, "sleepy": 8085, "pi": 8086, "claude": 8087, "long": 8088, "router": 8089}


@dataclass
class Llama:
    """`urls` by server: `one` and `two` are replicas of the model `tiny` with SLOTS slots each, `calling` (2 slots) thinks, speaks and
    calls tools whatever it is asked (tests/calling_model.py), `embed` makes vectors, `sleepy` is another `tiny` that sleeps when nobody has
    asked it for 2 s, `pi` and `claude` read `note.txt` with those agents' tools (tests/gateway/agent_model.py), `long` (2 slots) takes
    seconds to read or to write the 32,000 tokens that it has room for, `router` keeps one of `tiny` and `calling` loaded. None has a
    key."""

    fleet: LabFleet
    urls: dict[str, str]

    def on(self, script: str, *, check: bool = True) -> str:
        """What a shell script prints on the host."""
        return self.fleet.on("box", script, check=check)

    def configuration(self, **more: Any) -> dict[str, Any]:
        """A gateway's, before all of them but `sleepy` and the router: models `tiny` (two replicas, alias `default`), and the others by
        their names."""
        return {
            "backends": {name: {"url": url} for name, url in self.urls.items() if name not in ("sleepy", "router")},
            "models": {
                "tiny": {"targets": [{"backend": name, "model": "tiny"} for name in ("one", "two")], "aliases": ["default"]},
                "calling": {"targets": [{"backend": "calling", "model": "calling"}], "aliases": ["tiny-calls.Q4_0.gguf"]},
                **{name: {"targets": [{"backend": name, "model": name}]} for name in ("embed", "pi", "claude", "long")},
            },
            **more,
        }


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    directory = tmp_path_factory.mktemp("slots")
    with lab_fleet("slots", directory, INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        put(
            fleet,
            calling_model.write(directory / "calling.gguf"),
            agent_model.write(directory / "pi.gguf", "read", {"path": "note.txt"}),
            agent_model.write(directory / "claude.gguf", "Read", {"file_path": "note.txt"}),
        )
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


def put(fleet: LabFleet, *models: Path) -> None:
    """Files of models, each in the place of the model of its name: a lab has the tiny model there. Their servers start anew."""
    for model in models:
        there = f"models/{model.name}"
        subprocess.run([*ssh_command(fleet.host("box")), f"cat >/var/lib/paddock/{there}"], input=model.read_bytes(), check=True)
        fleet.on("box", f"grep -l {there} /etc/systemd/system/llama-server-*.service | xargs -n 1 basename | xargs systemctl restart")


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with running_postgres() as made:
        yield made


NUMBERS = count()


@pytest.fixture
def on_postgres(server: Postgres) -> dict[str, Any]:
    """What a configuration says of a database without tables."""
    name = f"gateway_{next(NUMBERS)}"
    server.sql(f"CREATE DATABASE {name}")
    return {"database": server.url(name)}


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a configuration says of it: nothing is SQLite."""
    said: dict[str, Any] = {} if request.param == "sqlite" else request.getfixturevalue("on_postgres")
    return said

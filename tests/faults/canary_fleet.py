"""Two hosts that serve the same, of which the first is the canary of an upgrade, and what is so after one that was stopped there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control.state.evidence import TOLD
from lab.mirror import SUITE
from tests.lab_fleet import LabFleet, lab_fleet

FLEET = """
fleet: {fleet}
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {{time: elsewhere, packages: [python3]}}
      llama_cpp: {llama_cpp}
      models:
      llama_server: {server}
hosts:
  one: {{address: 192.0.2.10, lab: {{suite: {suite}}}}}
  two: {{address: 192.0.2.11, lab: {{suite: {suite}}}}}
models: {{demo: {{preset: {{ctx-size: 2048, parallel: 1}}}}}}
upgrade: {{rounds: {rounds}}}
"""

ROUTER = "{models: [demo], models_max: 1}"
INSTANCE = "{instances: {demo: {model: demo, listen: '127.0.0.1:8080'}}}"

PACED = "{ui: false, builder: one, source: {path: paced}}"
"""The release that tests/paced_server.py writes."""

SERVES = """basename $(readlink /opt/paddock/llama.cpp/current)
curl -sSf 127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"model": "demo", "prompt": "Hello", "max_tokens": 8}' |
  grep -o text_completion
"""

LEFT = "systemctl list-units --all --plain --no-legend 'paddock-*guard*' 'paddock-take*' 'paddock-gate*' 'paddock-measure*'; ls -d /var/lib/paddock/guard* 2>/dev/null; true"

HAS = """systemctl show -p MainPID -p InvocationID -p NRestarts 'llama-server*'
ls /opt/paddock/llama.cpp
cat /var/lib/paddock/history/log
find /opt/paddock /etc/paddock /var/lib/paddock -newer /root/before ! -path '*/lock*' 2>/dev/null
"""
"""What a host is that nobody has touched: its server's process, its releases, its history, and no file that is newer."""


@contextmanager
def canary_fleet(name: str, directory: Path, llama_cpp: str, server: str, **settings: object) -> Iterator[LabFleet]:
    with lab_fleet(name, directory, inventory(name, llama_cpp, server, **settings), ready=True) as fleet:
        yield fleet


def inventory(name: str, llama_cpp: str, server: str, *, rounds: int = 8, suite: str = SUITE) -> str:
    """`llama_cpp` and `server` are the settings of these roles, `rounds` how often both releases are measured at first."""
    return FLEET.format(fleet=name, llama_cpp=llama_cpp, server=server, rounds=rounds, suite=suite)


def stops_at_the_canary(fleet: LabFleet, words: str, *, soak_s: int = 60) -> str:
    """Upgrades to what the inventory says, and gives what that said. It must be refused on `one`, or taken back there, with these words."""
    serving = {host: fleet.on(host, SERVES) for host in ("one", "two")}
    assert all("text_completion" in said for said in serving.values())
    fleet.on("two", "touch /root/before; sleep 1")
    untouched = fleet.on("two", HAS)
    began = time.monotonic()
    done = fleet.paddock("upgrade", "--lab", "--yes", "--soak", str(soak_s), timeout_s=3000)
    print(f"exit {done.returncode}, {time.monotonic() - began:.0f} s\n{done.stdout}\n{done.stderr}", flush=True)
    assert done.returncode in (1, 4)
    assert words in done.stderr + done.stdout
    assert {host: fleet.on(host, SERVES) for host in ("one", "two")} == serving
    assert fleet.on("two", HAS) == untouched
    assert fleet.on("one", LEFT).strip() == ""
    kept = json.loads(fleet.paddock("history", "--lab", "show", "--evidence", "--json").stdout)
    assert f"paddock history show {kept['number']} --evidence" in done.stdout
    files = kept["hosts"]["one"]["collected"]["files"]
    print("evidence:", *(f"{name} {len(text)}" for name, text in files.items()), flush=True)
    assert words in files[TOLD]
    assert done.returncode == 1 or any(each.endswith(".service.journal") for each in files)
    return done.stdout + done.stderr


def goes_back(fleet: LabFleet, before: str) -> None:
    """`one` serves what it did `before` an upgrade, by `rollback`."""
    done = fleet.paddock("rollback", "--lab", "--yes", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.on("one", SERVES) == before

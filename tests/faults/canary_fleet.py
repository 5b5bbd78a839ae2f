"""Two hosts that serve the same, of which the first is the canary of an upgrade, and what is so after one that was stopped there."""

from __future__ import annotations

import time

from tests.lab_fleet import LabFleet

FLEET = """
fleet: {fleet}
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {{time: elsewhere}}
      llama_cpp: {llama_cpp}
      models:
      llama_server: {{models: [demo], models_max: 1}}
hosts:
  one: {{address: 192.0.2.10}}
  two: {{address: 192.0.2.11}}
models: {{demo: {{preset: {{ctx-size: 4096, parallel: 1}}}}}}
"""

SERVES = """basename $(readlink /opt/paddock/llama.cpp/current)
curl -sSf 127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"model": "demo", "prompt": "Hello", "max_tokens": 8}' |
  grep -o text_completion
"""

LEFT = "systemctl list-units --all --plain --no-legend 'paddock-*guard*' 'paddock-take*' 'paddock-gate*' 'paddock-measure*'; ls -d /var/lib/paddock/guard* 2>/dev/null; true"

HAS = """systemctl show -p MainPID -p InvocationID -p NRestarts llama-server
ls /opt/paddock/llama.cpp
cat /var/lib/paddock/history/log
find /opt/paddock /etc/paddock /var/lib/paddock -newer /root/before ! -path '*/lock*' 2>/dev/null
"""
"""What a host is that nobody has touched: its server's process, its releases, its history, and no file that is newer."""


def stops_at_the_canary(fleet: LabFleet, words: str, *, soak_s: int = 60) -> None:
    """Upgrades to what the inventory says, which must fail with these words on `one`, of which all tells that it never was there."""
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

"""A release that is worse is stopped at the canary: the one before serves on, and the rest of the fleet has not been touched."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.faults.bad_releases import BAD, source
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import spread, turn

pytestmark = turn(3, of=5)

FLEET = """
fleet: worse
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {{time: elsewhere}}
      llama_cpp: {{ui: false, builder: one, source: {{path: {source}}}}}
      models:
      llama_server: {{models: [demo], models_max: 1}}
hosts:
  one: {{address: 192.0.2.10}}
  two: {{address: 192.0.2.11}}
models: {{demo: {{preset: {{ctx-size: 512}}}}}}
"""

SERVES = """basename $(readlink /opt/paddock/llama.cpp/current)
curl -sSf 127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"model": "demo", "prompt": "Hello", "max_tokens": 8}' |
  grep -o text_completion
"""

LEFT = "systemctl list-units --all --plain --no-legend 'paddock-*guard*' 'paddock-take*' 'paddock-gate*'; ls -d /var/lib/paddock/guard* 2>/dev/null; true"

UNTOUCHED = "find /opt/paddock /etc/paddock /var/lib/paddock -newer /root/before ! -path '*/lock*' 2>/dev/null"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    directory = tmp_path_factory.mktemp("worse")
    text = FLEET.format(source=directory / "tree")
    source("", directory / "inventory.yml", directory / "tree")
    with lab_fleet("worse", directory, text, ready=True) as fleet:
        fleet.up()
        yield fleet


@pytest.mark.parametrize("kind", spread("bad releases", sorted(BAD), 2))
def test_a_release_that_is_worse_stops_at_the_canary(fleet: LabFleet, kind: str) -> None:
    before = {host: fleet.on(host, SERVES) for host in ("one", "two")}
    assert all("text_completion" in said for said in before.values())
    fleet.on("two", "touch /root/before; sleep 1")
    source(kind, fleet.inventory, fleet.directory / "tree")
    began = time.monotonic()
    done = fleet.paddock("upgrade", "--lab", "--yes", "--soak", "60", timeout_s=3000)
    print(f"{kind}: exit {done.returncode}, {time.monotonic() - began:.0f} s\n{done.stdout}\n{done.stderr}", flush=True)
    assert done.returncode in (1, 4)
    assert BAD[kind].words in done.stderr + done.stdout
    assert {host: fleet.on(host, SERVES) for host in ("one", "two")} == before
    assert fleet.on("two", UNTOUCHED) == ""
    assert fleet.on("one", LEFT).strip() == ""
    if done.returncode == 4:
        assert list((fleet.state / "evidence").glob("one-*/*"))

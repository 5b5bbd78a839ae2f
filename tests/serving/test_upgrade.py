"""`paddock upgrade` between two real releases: a canary first, then the rest, while the old one serves."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

FLEET = """
fleet: upgraded
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [one, two]
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false, builder: one}
      models:
      llama_server: {models: [demo], models_max: 1}
hosts:
  one: {address: 192.0.2.10}
  two: {address: 192.0.2.11}
models: {demo: {preset: {ctx-size: 512}}}
"""

OTHER = FLEET.replace("ui: false", "ui: false, options: {GGML_CPU_REPACK: off}")

CURRENT = "basename $(readlink /opt/paddock/llama.cpp/current)"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("upgraded", tmp_path_factory.mktemp("upgraded"), FLEET, ready=True) as fleet:
        fleet.up()
        yield fleet


def current(fleet: LabFleet) -> list[str]:
    return [fleet.on(host, CURRENT).strip() for host in ("one", "two")]


def test_a_plan_names_the_canary_and_the_waves_and_changes_nothing(fleet: LabFleet) -> None:
    before = current(fleet)
    assert fleet.paddock("upgrade", "--lab", "--plan").returncode == 0
    fleet.write(OTHER)
    planned = fleet.paddock("upgrade", "--lab", "--plan")
    print(planned.stdout, planned.stderr, flush=True)
    assert planned.returncode == 3
    assert "canary: one" in planned.stdout and "wave 1: two" in planned.stdout
    assert current(fleet) == before


def test_every_host_serves_the_new_one_after_the_other(fleet: LabFleet) -> None:
    before = current(fleet)
    fleet.write(OTHER)
    began = time.monotonic()
    done = fleet.paddock("upgrade", "--lab", "--yes", "--soak", "5", timeout_s=3000)
    print(done.stdout, done.stderr, f"upgraded: {time.monotonic() - began:.0f} s", flush=True)
    assert done.returncode == 0
    assert len({*before, *current(fleet)}) == 2 and current(fleet)[0] != before[0]
    assert "0 changed" in fleet.up().stdout
    assert "nothing is to be upgraded" in fleet.paddock("upgrade", "--lab", "--yes").stdout

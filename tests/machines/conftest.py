"""Two virtual machines and a container, which the tests of what they are, and of what serves on them, share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet

NAME = "cores"

INVENTORY = """
fleet: cores
domain: home.example
networks: [192.0.2.0/24]
groups:
  serving:
    hosts: [old, pi]
    roles:
      base: {{time: elsewhere}}
      llama_cpp: {{builder: forge, ui: false{options}}}
      models:
      llama_server: {{models: [demo]}}
hosts:
  forge: {{address: 192.0.2.9, roles: {{base: {{time: elsewhere}}, llama_cpp: {{serve: false}}}}}}
  old: {{address: 192.0.2.10, lab: {{cpu: no-avx}}}}
  pi: {{address: 192.0.2.11, user: operator, lab: {{arch: arm64}}}}
models: {{demo: {{preset: {{ctx-size: 512}}}}}}
"""


@pytest.fixture(scope="package")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """The hosts are up, and nothing is deployed."""
    lab_hosts.down(NAME)
    print("lab: starting two virtual machines, which are emulated where nothing runs them directly", flush=True)
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), INVENTORY.format(options="")) as fleet:
        yield fleet

"""A lab host that compiles for machines which are not there: what is recorded of their hardware is all that a build asks of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control.llama_cpp.artifacts import Artifacts
from control.state.fleet import FleetState
from inventory.hardware import Hardware
from inventory.knowledge import Artifact
from tests.lab_fleet import LabFleet, lab_fleet

MACHINES = """
fleet: {name}
domain: home.example
networks: [192.0.2.0/24]
hosts:
  forge: {{address: {address}, ssh_key: "{ssh_key}", host_key: "{host_key}", roles: {{base: {{time: elsewhere}}{builder}}}}}
"""

MACHINE = """
  machine: {address: 192.0.2.20, roles: {base: {time: elsewhere}, llama_cpp: {builder: forge, ui: false}}}
"""


@dataclass
class Forge:
    """`fleet` has the compiling host, and once `compiled` was called the machine that it compiles for, too."""

    fleet: LabFleet

    def compiled(self, machine: Hardware, timeout_s: float) -> tuple[Artifact, Path]:
        """What `paddock artifacts build` leaves for such a machine, described and packed."""
        forge = self.fleet.host("forge")
        known = {"name": self.fleet.name, "address": forge.address, "ssh_key": forge.ssh_key, "host_key": forge.host_key}
        self.fleet.write(MACHINES.format(**known, builder=", llama_cpp: {serve: false}") + MACHINE)
        looked = self.fleet.paddock("plan", "--limit", "forge")
        assert looked.returncode == 3, looked.stdout + looked.stderr
        state = FleetState.of(self.fleet.inventory, self.fleet.name)
        state.save_hardware("machine", machine)
        began = time.monotonic()
        with self.fleet.start("artifacts", "build", "--limit", "machine") as building:
            assert building.stdout
            said = ""
            for line in building.stdout:
                said += line
                print(f"forge: {line.strip()}", flush=True)
                assert time.monotonic() - began < timeout_s, said
        assert building.returncode == 0, said
        (artifact,) = Artifacts(state).all()
        return artifact, Artifacts(state).archive(artifact.name)


@contextmanager
def forge(name: str, directory: Path) -> Iterator[Forge]:
    own = MACHINES.format(name=name, address="192.0.2.10", ssh_key="~/.ssh/id_ed25519", host_key="", builder="")
    with lab_fleet(name, directory, own.replace('host_key: "", ', "")) as fleet:
        yield Forge(fleet)

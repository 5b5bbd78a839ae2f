"""What a machine with an older C library runs is compiled elsewhere, in a tree of that machine's own release of Debian."""

from __future__ import annotations

from pathlib import Path

from roles.llama_cpp.cuda import version
from tests.builds.forge import forge
from tests.lab.snapshot import inside
from tests.unit.llama_cpp.recorded import MACHINES, hardware

BUILD_S = 2400


def test_a_raspberry_pi_with_debian_12_is_compiled_for_by_debian_13(tmp_path: Path) -> None:
    with forge("older", tmp_path) as smithy:
        container = smithy.fleet.host("forge").container
        artifact, _ = smithy.compiled(hardware(MACHINES["raspberry-pi-5"]), BUILD_S)
        own = inside(container, "getconf GNU_LIBC_VERSION").split()[1]
        print(f"older: {artifact}, compiled on a host with glibc {own}", flush=True)
    assert artifact.architecture == "aarch64"
    assert version(artifact.libc) <= (2, 36) < version(own)

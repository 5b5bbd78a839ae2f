"""A whole build for the cards of a mining rig: Pascal, behind a processor without AVX. No such card is here: the machine code is read."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.engine import reach
from tests.builds.forge import forge
from tests.lab.snapshot import inside
from tests.unit.llama_cpp.recorded import MACHINES, hardware

BUILD_S = 3000

NON_FREE = "sed -i 's/^Components: .*/Components: main contrib non-free non-free-firmware/' /etc/apt/sources.list.d/debian.sources"


@dataclass(frozen=True)
class Built:
    """The programs and libraries of the release, unpacked, and the container that compiled them."""

    programs: Path
    container: str

    def cuobjdump(self, option: str) -> str:
        """What NVIDIA's own tool, which lies where it was compiled, says of llama-server, which has the cards' code in it."""
        reach().run("cp", str(self.programs / "llama-server"), f"{self.container}:/root/llama-server")
        return inside(self.container, f"cuobjdump {option} /root/llama-server 2>&1 || true")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with forge("cudatest", tmp_path_factory.mktemp("cuda")) as smithy:
        container = smithy.fleet.host("forge").container
        inside(container, NON_FREE)
        artifact, packed = smithy.compiled(hardware(MACHINES["mining-rig"]), BUILD_S)
        print(f"cuda: {artifact.name}: {artifact.size >> 20} MiB, {artifact.profile}", flush=True)
        target = tmp_path_factory.mktemp("programs")
        with tarfile.open(packed) as tar:
            tar.extractall(target, filter="data")
        yield Built(target / artifact.name / "bin", container)


def test_it_holds_machine_code_for_compute_capability_6_1_and_for_no_other(built: Built) -> None:
    """And no PTX, which a driver would compile for a newer card and which none compiles for an older."""
    listed = built.cuobjdump("--list-elf").splitlines()
    print(f"cuda: {len(listed)} cubins", flush=True)
    assert len(listed) > 50
    assert [each for each in listed if not each.endswith(".sm_61.cubin")] == []
    assert "No PTX file found" in built.cuobjdump("--list-ptx")


def test_it_holds_no_instruction_that_the_celeron_lacks(built: Built) -> None:
    for each in sorted(built.programs.iterdir()):
        if each.is_symlink() or each.read_bytes()[:4] != b"\x7fELF":
            continue
        code = subprocess.Popen(["objdump", "--disassemble", "--no-show-raw-insn", str(each)], stdout=subprocess.PIPE, text=True)
        assert code.stdout
        vex = next((line for line in code.stdout if re.search(r"\t(v[a-z0-9]+|mulx|rorx|sarx|shlx|shrx|andn|bextr)\b.*%", line)), "")
        code.stdout.close()
        code.wait()
        print(f"cuda: {each.name}: {vex.strip() or 'no AVX, no BMI'}", flush=True)
        assert not vex, each.name

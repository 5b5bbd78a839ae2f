"""Processors that this machine does not have: one x86-64 without AVX, one Cortex-A76. What they run was compiled on another host."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.lab_fleet import LabFleet
from tests.machines.conftest import INVENTORY
from tests.share import turn

pytestmark = turn(3, of=5)

ASK = "curl -sS http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{}'".format(
    json.dumps({"model": "demo", "prompt": "Hello", "max_tokens": 8})
)
CURRENT = "readlink /opt/paddock/llama.cpp/current"


@pytest.fixture(scope="module")
def cores(machines: LabFleet) -> LabFleet:
    began = time.monotonic()
    done = machines.paddock("up", "--lab", "--yes")
    print(done.stdout[-2000:], f"cores: {time.monotonic() - began:.0f} s", flush=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return machines


def test_a_machine_without_avx_answers_from_what_another_compiled(cores: LabFleet) -> None:
    assert not re.search(r"\bavx", cores.on("old", "grep -m 1 ^flags /proc/cpuinfo"))
    assert not cores.on("old", "command -v g++ cmake || true")
    assert '"text_completion"' in cores.on("old", ASK)


def test_a_cortex_a76_answers_from_a_cross_build_and_uses_dotprod(cores: LabFleet) -> None:
    assert cores.on("pi", "uname -m").strip() == "aarch64"
    assert '"text_completion"' in cores.on("pi", ASK)
    server = "/opt/paddock/llama.cpp/current/bin/llama-server"
    said = cores.on("pi", f"cd /tmp; timeout 40 {server} -m /var/lib/paddock/models/demo.gguf -c 256 --port 8099 -lv 4 2>&1", check=False)
    assert re.search(r"DOTPROD = 1", said), said


def test_the_same_built_with_avx_is_refused_by_the_gate_in_words_and_the_one_before_serves_on(cores: LabFleet) -> None:
    before = cores.on("old", CURRENT)
    cores.write(INVENTORY.format(options=", options: {GGML_AVX: on, GGML_AVX2: on, GGML_FMA: on, GGML_F16C: on, GGML_BMI2: on}"))
    failed = cores.paddock("up", "--lab", "--yes", "--limit", "forge,old")
    print(failed.stderr, flush=True)
    assert failed.returncode == 1
    assert re.search(
        r"^old: release:\S+: does not pass its gate, so the one before serves on: processor: .*built to use avx.*, "
        r"which this processor lacks",
        failed.stderr,
        re.MULTILINE,
    ), failed.stderr
    assert cores.on("old", CURRENT) == before
    assert '"text_completion"' in cores.on("old", ASK)
    built = cores.on("old", "ls -d /opt/paddock/llama.cpp/releases/*").split()
    (avx,) = [each for each in built if each != before.strip()]
    bench = f"{avx}/bin/llama-bench -m /var/lib/paddock/models/demo.gguf -p 8 -n 1"
    assert cores.on("old", f"{bench} >/dev/null 2>&1; echo $?").strip() == "132", "it would have run after all"
    cores.write(INVENTORY.format(options=""))
    assert "0 changed" in cores.up("--limit", "old").stdout

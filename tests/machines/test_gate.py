"""The gate: a release is tried on its host before it serves, as the service will run it, and refused in words where it does not do.

The release is llama.cpp's own Vulkan build, on Mesa's driver for the processor; the faults are those that real releases and hosts have.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from control.models.local import tiny_model
from resources import File, Release, Resource, Service, on_trial
from roles.llama_cpp.gate import trial
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

FLEET = """
fleet: gatetest
domain: home.example
networks: [192.0.2.0/24]
hosts:
  vk:
    address: 192.0.2.10
    roles:
      base: {packages: [qemu-user]}
      llama_cpp: {accelerator: vulkan, vulkan_device: any}
      models:
      llama_server: {models: [demo]}
models: {demo: {preset: {ctx-size: 1024}}}
"""

BUILD_S = 3600
"""What a first build for Vulkan may take on a slow machine; with the lab's ccache it is a minute."""

CURRENT = "/opt/paddock/llama.cpp/current"
UNIT = "llama-server.service"
PRESETS = "/etc/paddock/llama-server/presets.ini"

PROGRAM = "/opt/gate/release/bin/llama-server"
TRY = "sh /opt/gate/gate.sh /opt/gate/release /opt/gate/trial.tar"

LEFT = r"""
ls -d /run/paddock-gate* 2>/dev/null || true
systemctl list-units --all --plain --no-legend 'paddock-gate*'
ps -eo args | grep -E '[g]ate[.]sh|[r]un/paddock-gate' || true
"""

SERVING = "systemctl show -P InvocationID llama-server; systemctl show -P NRestarts llama-server; curl -fsS -o /dev/null 127.0.0.1:8080/health && echo well"


@dataclass(frozen=True)
class Gate:
    """The host, the release that serves there, and the resources that run it, as they lie on it."""

    container: str
    release: Release
    unit: str
    presets: str

    def resources(self, presets: str = "", flags: str = "", environment: str = "") -> tuple[Resource, ...]:
        text = self.unit.replace("llama-server \\\n", f"llama-server {flags} \\\n").replace("[Install]", f"{environment}\n[Install]")
        unit = File(f"/etc/systemd/system/{UNIT}", text)
        file = File(PRESETS, self.presets + presets)
        return (self.release, unit, file, Service(UNIT, restarts=(unit, file, self.release)))

    def tries(self, release: Release, resources: tuple[Resource, ...], program: str = "") -> tuple[int, str]:
        """The gate's exit code, and what it says. `program` is what a shell does before it becomes the real llama-server."""
        self.send(release, resources, program)
        said = inside(self.container, f"rc=0; {TRY} 2>&1 || rc=$?; echo; echo $rc")
        print(f"gate: {said}", flush=True)
        words, _, code = said.rstrip().rpartition("\n")
        assert inside(self.container, LEFT) == ""
        return int(code), words.rstrip().rpartition("\n")[2]

    def send(self, release: Release, resources: tuple[Resource, ...], program: str = "") -> None:
        self.write("/opt/gate/gate.sh", on_trial("gate.sh"))
        self.write("/opt/gate/trial.tar", trial(release, resources, tiny_model().read_bytes()))
        self.write(PROGRAM, f'#!/bin/sh\nreal={CURRENT}/bin/llama-server\n{program}\nexec "$real" "$@"\n'.encode())
        inside(self.container, f"chmod 755 {PROGRAM}")

    def write(self, path: str, data: bytes) -> None:
        encoded = base64.encodebytes(data).decode()
        inside(self.container, f"mkdir -p {Path(path).parent}; base64 -d >{path} <<'end'\n{encoded}end\n")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("gatetest", tmp_path_factory.mktemp("gate"), FLEET, ready=True) as fleet:
        print("gate: building for Vulkan, where no run has", flush=True)
        began = time.monotonic()
        done = fleet.paddock("up", "--lab", "--yes", timeout_s=BUILD_S)
        assert done.returncode == 0, done.stdout + done.stderr
        print(f"gate: up in {time.monotonic() - began:.0f} s", flush=True)
        yield fleet


@pytest.fixture(scope="module")
def gate(fleet: LabFleet) -> Gate:
    container = fleet.host("vk").container
    path = inside(container, f"readlink {CURRENT}")
    name = path.rpartition("/")[2]
    version, _, fingerprint = name.rpartition("-")
    release = Release(
        path,
        CURRENT,
        version,
        fingerprint,
        "sdist",
        options=(),
        targets=(),
        packages=(),
        backend="vulkan",
        environment=(("GGML_VK_VISIBLE_DEVICES", "0"),),
        devices=("Vulkan0",),
        cpu_features=("sse4_2",),
    )
    return Gate(container, release, f"{inside(container, f'cat /etc/systemd/system/{UNIT}')}\n", f"{inside(container, f'cat {PRESETS}')}\n")


def test_verify_names_a_server_that_would_compute_on_the_processor(fleet: LabFleet) -> None:
    """Its driver is gone, and the server that runs says nothing of it."""
    drivers = "/usr/share/vulkan/icd.d"
    fleet.on("vk", f"mv {drivers} {drivers}.away")
    try:
        failed = fleet.paddock("verify", "--lab")
    finally:
        fleet.on("vk", f"mv {drivers}.away {drivers}")
    assert failed.returncode == 1
    assert "llama-server.service cannot use Vulkan0: it would compute on the processor. It sees none" in failed.stderr, failed.stderr
    assert fleet.paddock("verify", "--lab").returncode == 0


def test_a_release_that_fits_passes_and_what_serves_is_not_disturbed(gate: Gate) -> None:
    before = inside(gate.container, SERVING)
    assert before.endswith("well")
    assert gate.tries(gate.release, gate.resources()) == (0, "")
    assert inside(gate.container, SERVING) == before


def test_one_whose_device_is_hidden_is_refused_although_it_is_healthy_and_answers(gate: Gate) -> None:
    hidden, resources = replace(gate.release, environment=()), gate.resources(environment="Environment=GGML_VK_VISIBLE_DEVICES=")
    gate.send(hidden, resources)
    said = inside(
        gate.container,
        rf"""
        cd /opt/gate; tar -xf trial.tar tiny.gguf
        {CURRENT}/bin/llama-server -m tiny.gguf -c 256 --host /opt/gate/hidden.sock >log 2>&1 & pid=$!
        ask() {{ curl -fsS --retry 50 --retry-delay 1 --retry-all-errors --unix-socket hidden.sock "$@" 2>/dev/null; }}
        ask -o /dev/null -w '%{{http_code}}\n' http://localhost/health
        ask http://localhost/completion -d '{{"prompt": "Hello", "n_predict": 8}}' | grep -o 'from a tiny model'
        kill $pid; wait $pid || true
        """,
    )
    assert said.splitlines() == ["200", "from a tiny model"]
    assert gate.tries(hidden, resources) == (
        1,
        "the gate refuses it: devices: Vulkan0 cannot be seen (--list-devices has none), so it would serve on less than was meant; see that "
        "the driver works, that its packages are there, and that the service may use the device",
    )


def test_one_that_lists_its_device_and_computes_elsewhere_is_refused(gate: Gate) -> None:
    elsewhere = 'case $1 in --model) set -- "$@" --device none;; esac'
    code, words = gate.tries(gate.release, gate.resources(), elsewhere)
    assert code == 1
    assert re.fullmatch(r"the gate refuses it: offload: .* not all of them on Vulkan0; it would serve on the processor", words)


def test_one_that_offloads_only_a_part_is_refused(gate: Gate) -> None:
    part = 'case $1 in --model) set -- "$@" --n-gpu-layers 1;; esac'
    code, words = gate.tries(gate.release, gate.resources(), part)
    assert code == 1
    assert words.startswith("the gate refuses it: offload: with its log at -lv 4, it shows 1/2 layers on a GPU")


HELP = "`llama-server --help` of the release lists what"


@pytest.mark.parametrize(
    ("presets", "flags", "words"),
    [
        (
            "ctx-sizes = 4\n",
            "",
            f': this llama.cpp does not know the key "ctx-sizes" in section [demo] of {PRESETS}:'
            f" it was removed or renamed, or is misspelt; {HELP} there is",
        ),
        (
            "cache-type-k = q9_0\n",
            "",
            f', section [demo] of {PRESETS}: this llama.cpp does not take "--cache-type-k": Unsupported cache type: q9_0; {HELP} it takes',
        ),
        (
            "",
            "--no-such-flag",
            f": this llama.cpp does not know --no-such-flag: it was removed or renamed, or is misspelt; {HELP} there is",
        ),
    ],
    ids=["key", "value", "flag"],
)
def test_what_the_release_does_not_take_is_named_with_its_place(gate: Gate, presets: str, flags: str, words: str) -> None:
    assert gate.tries(gate.release, gate.resources(presets, flags)) == (1, f"the gate refuses it: flags: {UNIT}{words}")


def test_a_fixed_model_has_its_flags_tried_without_being_loaded(gate: Gate) -> None:
    unit = File(
        f"/etc/systemd/system/{UNIT}", f"[Service]\nUser=llama-server\nExecStart={CURRENT}/bin/llama-server -m /nowhere.gguf --flag-x"
    )
    code, words = gate.tries(gate.release, (unit, Service(UNIT, restarts=(unit, gate.release))))
    assert (code, words.partition(":")[2].partition(": it was")[0]) == (1, f" flags: {UNIT}: this llama.cpp does not know --flag-x")
    right = replace(unit, content=unit.data.decode().replace("--flag-x", "--ctx-size 4096 --cache-type-k q8_0"))
    assert gate.tries(gate.release, (right, Service(UNIT, restarts=(right, gate.release)))) == (0, "")


def test_presets_are_tried_quotes_and_all_and_none_of_them_is_loaded(gate: Gate) -> None:
    presets = 'chat-template = {{ "a [b], \\"c\\"" }}\nload-on-startup = true\n'
    # The router's workers, had it any two seconds after its start.
    workers = """case " $* " in *" --models-preset "*)
        "$real" "$@" --host /run/paddock-gate-server/before.sock & sleep 2; workers=$(pgrep -P $! -a); kill $!; wait $!
        [ -z "$workers" ] || { echo "error: it runs $workers"; exit 9; } ;;
    esac"""
    assert gate.tries(gate.release, gate.resources(presets), workers) == (0, "")


def test_the_features_that_the_processor_lacks_are_named(gate: Gate) -> None:
    needs = replace(gate.release, cpu_features=("sse4_2", "avx", "avx2"))
    masked = "sed -E 's/ (avx|fma|f16c)[^ ]*//g' /proc/cpuinfo >/opt/gate/cpuinfo; mount --bind /opt/gate/cpuinfo /proc/cpuinfo"
    inside(gate.container, masked)
    try:
        code, words = gate.tries(needs, gate.resources())
    finally:
        inside(gate.container, "umount /proc/cpuinfo")
    lacks = (
        "it was built to use avx and avx2, which this processor lacks; build it for this processor (cpu: auto) or for any (cpu: portable)"
    )
    assert (code, words) == (1, f"the gate refuses it: processor: {lacks}")


def test_one_that_dies_of_an_illegal_instruction_is_refused_whatever_it_was_built_for(gate: Gate) -> None:
    if " avx2 " not in inside(gate.container, "grep -m 1 ^flags /proc/cpuinfo"):
        pytest.skip("a build for this machine uses no AVX2, which is to be taken from it")
    alone = replace(gate.release, devices=(), environment=())  # qemu writes its code as it goes, which the service may not
    code, words = gate.tries(alone, (), 'exec qemu-x86_64 -cpu Westmere "$real" "$@"')
    assert code == 1
    assert words.startswith("the gate refuses it: a tiny model on the processor: it dies of an illegal instruction (SIGILL)")


def test_a_library_that_is_missing_or_damaged_is_named(gate: Gate) -> None:
    inside(gate.container, "mkdir -p /opt/gate/lib; head -c 500 /usr/lib/*/libgomp.so.1 >/opt/gate/lib/libgomp.so.1")
    damaged = replace(gate.release, environment=(("LD_LIBRARY_PATH", "/opt/gate/lib"),))
    code, words = gate.tries(damaged, gate.resources())
    assert code == 1
    assert words.startswith("the gate refuses it: --version: the shared library /opt/gate/lib/libgomp.so.1 is damaged (")
    inside(gate.container, f"sed s/libgomp.so.1/libgone.so.1/ {CURRENT}/bin/llama-server >/opt/gate/gone; chmod 755 /opt/gate/gone")
    missing = 'exec /opt/gate/gone "$@"'
    assert gate.tries(gate.release, gate.resources(), missing) == (
        1,
        "the gate refuses it: --version: the shared library libgone.so.1 is missing: install the package that has it",
    )


def test_a_service_that_could_not_start_is_told_as_systemd_tells_it(gate: Gate) -> None:
    code, words = gate.tries(gate.release, gate.resources(environment="SupplementaryGroups=no-such-group"))
    assert code == 1
    assert words.startswith("the gate refuses it: --version: systemd cannot start it as the service is to run: Failed to determine")


KILLS = {
    "the script": "kill -9 $pid",
    "who called it": "kill -9 $caller",
    "the unit": "kill -9 $(systemctl show -P MainPID paddock-gate)",
    "the server": "kill -9 $(systemctl show -P MainPID paddock-gate-server)",
    "the script, politely": "kill $pid",
}


@pytest.mark.parametrize("who", KILLS)
def test_nothing_outlives_a_gate_of_which_a_part_is_killed(gate: Gate, who: str) -> None:
    gate.send(gate.release, gate.resources(), "case $1 in --model) sleep 7777;; esac")
    done = inside(
        gate.container,
        rf"""
        sh -c 'echo $$ >/opt/gate/caller; {TRY} & echo $! >/opt/gate/pid; wait' >/opt/gate/said 2>&1 &
        for try in $(seq 300); do ! pgrep -x sleep -a | grep -q 7777 || break; sleep 0.1; done
        caller=$(cat /opt/gate/caller) pid=$(cat /opt/gate/pid)
        pgrep -x sleep -a | grep -q 7777 && {KILLS[who]} && echo killed
        for try in $(seq 100); do [ "$(systemctl list-units --all --plain --no-legend 'paddock-gate*')" ] || break; sleep 0.1; done
        """,
    )
    assert done == "killed"
    assert inside(gate.container, f"{LEFT} pgrep -x sleep -a | grep 7777 || true") == ""

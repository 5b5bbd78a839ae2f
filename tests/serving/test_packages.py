"""The distribution's own llama.cpp, on hosts of Debian's unstable suite: it serves, computes for others, and is left as a build would be.

The versions are those that the suite has on this day: an archive keeps no others.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import WHOLE, turn

pytestmark = turn(4, of=5)

ROUNDS = 200 if WHOLE else 15

INVENTORY = """
fleet: packages
domain: home.example
networks: [192.0.2.0/24]
settle: 0
defaults:
  roles:
    base: {time: elsewhere}
    llama_cpp: {source: {packages: "LLAMA", ggml: "GGML"}}
hosts:
  box:
    address: 192.0.2.10
    lab: {suite: sid}
    roles:
      models:
      llama_server:
        models: [one, two]
        models_max: 1
        instances:
          both: {model: one, listen: "127.0.0.1:8081", workers: [worker], preset: {n-gpu-layers: 1}}
  worker:
    address: 192.0.2.11
    lab: {suite: sid}
    roles:
      rpc_worker: {listen: "192.0.2.11:50051"}
models:
  one: {source: tiny, preset: {ctx-size: 512}}
  two: {source: tiny, preset: {ctx-size: 512}}
"""

SERVER = "/opt/paddock/llama.cpp/current/bin/llama-server"
CANDIDATES = "apt-get -qq update; apt-cache policy llama.cpp-tools libggml0 | sed -n 's/^ *Candidate: //p'"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LabFleet, str]]:
    """The fleet, and its inventory with the versions that there are."""
    lab_hosts.down("packages")
    text = INVENTORY.replace("LLAMA", "1:0.7.0+dfsg-2").replace("GGML", "0.27.0-1")
    with lab_fleet("packages", tmp_path_factory.mktemp("packages"), text) as fleet:
        llama, ggml = fleet.on("box", CANDIDATES).split()
        print(f"packages: llama.cpp {llama}, ggml {ggml}", flush=True)
        text = INVENTORY.replace("LLAMA", llama).replace("GGML", ggml)
        fleet.write(text)
        fleet.up()
        yield fleet, text


@pytest.fixture
def fleet(deployed: tuple[LabFleet, str]) -> LabFleet:
    fleet, text = deployed
    if fleet.inventory.read_text() != text:
        fleet.write(text)
        fleet.up("--no-verify")
    return fleet


def asked(fleet: LabFleet, model: str, port: int = 8080) -> str:
    """The status code of an answer, and what the model says."""
    body = json.dumps({"model": model, "prompt": "Hello!", "max_tokens": 8, "temperature": 0})
    return fleet.on("box", f"curl -s --max-time 120 -w ' %{{http_code}}' http://127.0.0.1:{port}/v1/completions -d '{body}'")


def loaded(fleet: LabFleet, host: str, program: str) -> set[str]:
    """The back ends that the processes of a program have loaded."""
    script = f"for pid in $(pgrep -f {program}); do grep -o '/[^ ]*libggml[^ ]*' /proc/$pid/maps; done | sort -u"
    return set(fleet.on(host, script, check=False).split())


def test_it_serves_and_a_second_run_changes_nothing(fleet: LabFleet) -> None:
    assert fleet.paddock("verify", "--lab").returncode == 0
    assert "0 changed" in fleet.up().stdout
    assert asked(fleet, "one").endswith(" 200")
    version = fleet.on("box", f"{SERVER} --version 2>&1")
    assert re.search(r"version: \d+\.\d+\.\d+ ", version), version


def test_one_host_downloads_and_both_have_the_same_release(fleet: LabFleet) -> None:
    names = {fleet.on(host, "basename $(readlink /opt/paddock/llama.cpp/current)").strip() for host in ("box", "worker")}
    assert len(names) == 1
    assert fleet.on("worker", "command -v chrpath || true") == ""


def test_the_worker_computes_by_its_own_program(fleet: LabFleet) -> None:
    assert asked(fleet, "one", 8081).endswith(" 200")
    assert any(each.startswith("/opt/paddock/") for each in loaded(fleet, "worker", "ggml-rpc-server"))


def test_nothing_of_it_is_installed(fleet: LabFleet) -> None:
    for host in ("box", "worker"):
        assert fleet.on(host, "dpkg-query -W -f '${Package}\\n' | grep -E 'llama|ggml' || true") == ""
        assert fleet.on(host, "ls -d /usr/lib/systemd/system/llama-server.service /var/cache/paddock/packages 2>/dev/null || true") == ""
    listed = fleet.on("box", f"cat {SERVER.rpartition('/')[0]}/PACKAGES")
    assert re.search(r"^[0-9a-f]{64}  llama\.cpp-tools_", listed, re.MULTILINE)


def test_back_ends_of_somebody_elses_packages_are_not_loaded(fleet: LabFleet) -> None:
    """libggml0's own directory is the first that llama.cpp looks into."""
    fleet.on("box", "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends libggml0 >/dev/null 2>&1")
    try:
        assert fleet.on("box", "ls /usr/lib/*-linux-gnu/ggml/backends*/")
        fleet.on("box", "systemctl restart llama-server")
        assert asked(fleet, "two").endswith(" 200")
        found = loaded(fleet, "box", SERVER.replace("current", "releases/.*"))
        assert found and all(each.startswith("/opt/paddock/") for each in found), found
        assert "0 changed" in fleet.up().stdout
    finally:
        fleet.on("box", "apt-get -qq -y purge libggml0 >/dev/null 2>&1")


def test_models_that_take_turns_are_all_answered(fleet: LabFleet) -> None:
    """Two models, room for one: each request unloads the other's model while that may be answering (llama.cpp #28443, #28698)."""

    def after(pause_s: float, model: str) -> str:
        time.sleep(pause_s)
        return asked(fleet, model)[-4:]

    with ThreadPoolExecutor(2) as both:
        for number in range(ROUNDS):
            found = list(both.map(after, (0, 0.1), ("one", "two") if number % 2 else ("two", "one")))
            assert found == [" 200", " 200"], f"round {number}"


def test_a_version_that_the_archive_does_not_have_is_refused_and_the_one_before_serves_on(fleet: LabFleet) -> None:
    text = fleet.inventory.read_text()
    has = re.findall(r'"([^"]+)"', text)[0]
    fleet.write(text.replace(has, "1:0.99.0+dfsg-1"))
    done = fleet.paddock("up", "--lab", "--yes")
    assert done.returncode != 0
    assert f"has llama.cpp-tools {has}, and the inventory says 1:0.99.0+dfsg-1" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert asked(fleet, "one").endswith(" 200")


def test_another_accelerator_is_another_release_and_the_way_back_downloads_nothing(fleet: LabFleet) -> None:
    """The gate has asked a model on Vulkan before `current` moved: Mesa's driver for the processor takes minutes for a router's."""
    text, before = fleet.inventory.read_text(), fleet.on("box", "readlink /opt/paddock/llama.cpp/current")
    fleet.write(text.replace("    llama_cpp: {", "    llama_cpp: {accelerator: vulkan, vulkan_device: any, "))
    fleet.up("--limit", "box")
    assert fleet.on("box", "readlink /opt/paddock/llama.cpp/current") != before
    assert "Vulkan0" in fleet.on("box", f"GGML_VK_VISIBLE_DEVICES=0 {SERVER} --list-devices 2>&1")
    fleet.write(text)
    done = fleet.up("--limit", "box")
    assert fleet.on("box", "readlink /opt/paddock/llama.cpp/current") == before
    assert "llama.cpp" not in "\n".join(line for line in done.stdout.splitlines() if ": packages" in line)


def test_a_teardown_leaves_nothing(fleet: LabFleet) -> None:
    done = fleet.paddock("teardown", "--lab", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ("box", "worker"):
        left = fleet.on(host, "ls -d /opt/paddock /var/lib/paddock /var/cache/paddock/packages 2>/dev/null || true")
        assert left == "", left
        assert fleet.on(host, "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | grep -E '^i.* (chrpath|llama|libggml)' || true") == ""

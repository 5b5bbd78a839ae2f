"""A host goes back to the release and the presets that it had, and forward again; who was thrown out meanwhile stays out."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

INVENTORY = """
fleet: rollback
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: true}
      models:
      llama_server: {models: [one]}
      caddy: {sites: {box.home.example: {upstream: box}}}
models:
  one: {source: tiny, preset: {ctx-size: 512}}
clients: {laptop: , phone: }
"""
NEWER = INVENTORY.replace("ui: true", "ui: false").replace("ctx-size: 512", "ctx-size: 1024")

RELEASES = "/opt/paddock/llama.cpp/releases"
ADMITS = "find /etc/caddy/paddock -type f -exec sha256sum {} + | sort -k 2"


@dataclass
class Story:
    """The host has had two configurations, older and newer; the phone was thrown out while it had the newer one."""

    fleet: LabFleet
    older: str = ""
    newer: str = ""

    @property
    def phone(self) -> Path:
        return self.fleet.directory / "of-phone"

    @property
    def state(self) -> FleetState:
        return FleetState.of(self.fleet.inventory, "rollback-lab")

    def client(self, name: str) -> Path:
        """The directory of its certificate, its key, and the CA."""
        return Authority(self.state, Vault(self.state)).export(name, self.fleet.directory / f"of-{name}")

    def is_let_in(self, client: Path) -> bool:
        at = f"box.home.example:443:{self.fleet.host('box').address}"
        shows = ["--cacert", client / "ca.pem", "--cert", client / "cert.pem", "--key", client / "key.pem"]
        command = ["curl", "-sf", "--max-time", "60", "--resolve", at, *shows, "https://box.home.example/v1/models"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def serves(self) -> tuple[str, int]:
        """The release, and the context of its model, as the server itself has it."""
        current = self.fleet.on("box", "basename $(readlink /opt/paddock/llama.cpp/current)").strip()
        program = self.fleet.on("box", "readlink /proc/$(systemctl show -P MainPID llama-server)/exe").split("/")[-3]
        assert program == current
        asked = '{"model": "one", "prompt": "Hello!", "max_tokens": 4}'
        self.fleet.on("box", f"curl -sf --max-time 120 http://127.0.0.1:8080/v1/completions -d '{asked}'")
        slots = self.fleet.on("box", "curl -sf 'http://127.0.0.1:8080/slots?model=one'")
        return current, sum(each["n_ctx"] for each in json.loads(slots)) // len(json.loads(slots))

    def listed(self) -> Sequence[dict[str, object]]:
        done = self.fleet.paddock("rollback", "box", "--list", "--json", "--lab")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)["hosts"]["box"]
        return found

    def rolled_back(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        began = time.monotonic()
        done = self.fleet.paddock("rollback", "box", "--lab", "--yes", *arguments)
        print(f"rollback: {time.monotonic() - began:.1f} s in all\n{done.stdout}{done.stderr}", flush=True)
        return done


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("rollback")
    with lab_fleet("rollback", directory, INVENTORY, ready=True) as fleet:
        fleet.up()
        story = Story(fleet)
        story.older, context = story.serves()
        assert context == 512 and story.is_let_in(story.client("phone"))
        fleet.write(NEWER)
        fleet.up()
        story.newer, context = story.serves()
        assert context == 1024 and story.newer != story.older
        done = fleet.paddock("certs", "revoke", "phone", "--lab")
        assert done.returncode == 0, done.stdout + done.stderr
        yield story


def test_a_rollback_brings_back_the_release_and_the_preset_and_nobody_who_was_thrown_out(story: Story) -> None:
    assert not story.is_let_in(story.phone)
    admits = story.fleet.on("box", ADMITS)
    assert [each["entry"] for each in story.listed()] == [2, 1]

    done = story.rolled_back()

    assert done.returncode == 0
    assert story.serves() == (story.older, 512)
    assert re.search(r"box: \d+ checks passed$", done.stdout, re.MULTILINE)
    assert story.fleet.on("box", ADMITS) == admits
    assert not story.is_let_in(story.phone)
    assert story.is_let_in(story.client("laptop"))
    assert [(each["entry"], each["current"]) for each in story.listed()] == [(1, True), (2, False)]

    for verb, code in (("plan", 3), ("status", 3), ("verify", 1)):
        done = story.fleet.paddock(verb, "--lab")
        said = done.stdout + done.stderr
        assert done.returncode == code
        assert f"box: rolled back to {story.older} (entry 1) on " in said
        assert f"the inventory says {story.newer}: the next `paddock up` brings that back" in said


def test_a_second_rollback_rolls_forward_and_up_has_nothing_to_do(story: Story) -> None:
    assert story.rolled_back().returncode == 0
    assert story.serves() == (story.newer, 1024)
    assert not story.is_let_in(story.phone)
    assert "0 changed" in story.fleet.up().stdout
    assert "rolled back" not in story.fleet.paddock("plan", "--lab").stdout


def test_what_is_no_configuration_is_refused_and_nothing_is_changed(story: Story) -> None:
    plan = "/var/lib/paddock/history/1/plan"
    story.fleet.on("box", f"cp {plan} /root/kept; head -c 2000000 /dev/zero | gzip >{plan}")
    done = story.rolled_back()
    assert done.returncode == 1 and "box: entry 1: it is damaged: it is no configuration" in done.stderr
    story.fleet.on("box", f"head -c 5000000 /dev/urandom >{plan}")
    done = story.rolled_back()
    assert done.returncode == 1 and "it is larger than 1 MiB" in done.stderr
    story.fleet.on("box", f"cp /root/kept {plan}")
    assert story.serves() == (story.newer, 1024)


def test_a_release_that_is_gone_is_said_before_anything_is_changed(story: Story) -> None:
    story.fleet.on("box", f"mv {RELEASES}/{story.older} /root/aside")
    assert [each["possible"] for each in story.listed()] == [True, False]
    done = story.rolled_back()
    assert done.returncode == 1
    assert f"entry 1 serves release {story.older}, which is not on the host any more" in done.stderr
    assert story.serves() == (story.newer, 1024)
    story.fleet.on("box", f"mv /root/aside {RELEASES}/{story.older}")


def test_releases_beyond_those_that_are_kept_leave_but_for_the_one_before_and_one_that_runs(story: Story) -> None:
    copies = "; ".join(f"cp -a {RELEASES}/{story.older} {RELEASES}/0.1.{each}-000000000000" for each in range(3))
    story.fleet.on("box", f"{copies}; touch -d '2 days ago' {RELEASES}/*/.paddock-release")
    running = f"{RELEASES}/0.1.0-000000000000"
    story.fleet.on("box", f"cp /bin/sleep {running}/bin/; systemd-run --quiet --unit=stray {running}/bin/sleep 3600")
    shown = story.fleet.paddock("plan", "--lab").stdout
    assert re.search(r"~ releases:\S+  \(0\.1\.\d-0{12}, 0\.1\.\d-0{12} leave: 3 are kept\)", shown), shown
    story.fleet.up()
    assert set(story.fleet.on("box", f"ls {RELEASES}").split()) == {story.older, story.newer, "0.1.0-000000000000"}
    story.fleet.on("box", "systemctl stop stray")
    assert "0 changed" in story.fleet.up().stdout, "three are kept"


def test_a_teardown_leaves_no_history(story: Story) -> None:
    for data, left in ((), "/var/lib/paddock/manifest\n"), (("--data",), ""):
        done = story.fleet.paddock("teardown", "--lab", "--yes", *data)
        assert done.returncode == 0, done.stdout + done.stderr
        assert story.fleet.on("box", "find /var/lib/paddock /opt/paddock -type f 2>/dev/null || true") == left, "the caches are data"
    assert story.fleet.on("box", "find /var/lib/paddock /opt/paddock 2>/dev/null || true") == ""

"""The inventories that come with Paddock, rehearsed: their hosts stand in the lab, and every server of theirs answers.

All on this machine's processor: Vulkan and a Raspberry Pi's core have tests of their own (tests/machines).
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inventory.load import load
from lab import hosts as lab_hosts
from tests.lab_fleet import ROOT, with_compilers
from tests.share import turn

pytestmark = turn(3, of=5)

REHEARSAL_S = 1800

SYSTEMS = {"llamaserve": 1, "local-ai": 14, "pi-llm": 1}
"""Inventory → how many llama-servers its fleet has. (ai-server is rehearsed in tests/edge.)"""


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_comes_up_in_the_lab_with_all_its_servers_and_is_verified(name: str, tmp_path: Path) -> None:
    """llama-server itself reads every preset and flag: the gate tries them, and each server is asked for an answer by its checks."""
    inventory = tmp_path / f"{name}.yml"
    text = (ROOT / "inventory" / inventory.name).read_text()
    inventory.write_text(with_compilers(text.replace("accelerator: vulkan", "accelerator: cpu").replace("arch: arm64", "image: null")))
    fleet = load(inventory)
    servers = [server for host in fleet.hosts for server in fleet.servers(host)]
    assert len(servers) == SYSTEMS[name]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cli", "-i", str(inventory), "rehearse"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REHEARSAL_S,
    )
    print(f"systems: {name}: {len(servers)} llama-servers, {time.monotonic() - began:.0f} s", flush=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    for host in fleet.hosts_with("llama_server"):
        assert re.search(rf"^{host.name} .* yes *$", done.stdout, re.MULTILINE), done.stdout[-2000:]
    assert "\nreplaced for the rehearsal:\n  " in done.stdout
    assert not lab_hosts.list(fleet.name), "its hosts were left"

"""A host that is reached as somebody who becomes root with a password: it is asked for, and shown to nobody."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.engine import reach
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

PASSWORD = "correct-horse-4711"

INVENTORY = """
fleet: sudo
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai:
    address: 192.0.2.10
    user: admin
    roles:
      base: {packages: [tree]}
"""

SAMPLE = """
n=0; while [ -e /tmp/sampling ]; do n=$((n + 1)); cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; sleep 0.01; done |
  sort -u >/tmp/seen.new
mv /tmp/seen.new /tmp/seen
"""
"""Every argument of every process, a hundred times a second where the machine is quick enough."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("sudo", tmp_path_factory.mktemp("sudo"), INVENTORY) as fleet:
        as_root(fleet, f"echo admin:{PASSWORD} | chpasswd; sed -i s/NOPASSWD:// /etc/sudoers.d/[!R]*")
        yield fleet


def as_root(fleet: LabFleet, script: str) -> str:
    return inside(fleet.host("ai").container, script)


def test_without_a_password_it_says_how_to_give_one(fleet: LabFleet) -> None:
    done = fleet.paddock("up", "--lab", "--yes")
    assert done.returncode == 1
    assert "ai: sudo asks for a password: `paddock secrets set sudo` stores it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_is_told(fleet: LabFleet) -> None:
    fleet.environment["PADDOCK_SUDO_PASSWORD"] = "wrong"
    done = fleet.paddock("up", "--lab", "--yes")
    assert done.returncode == 1
    assert "incorrect password attempt" in done.stderr or "takes no password" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_it_the_host_converges_and_no_argument_list_ever_holds_it(fleet: LabFleet, tmp_path: Path) -> None:
    fleet.environment["PADDOCK_SUDO_PASSWORD"] = PASSWORD
    as_root(fleet, "touch /tmp/sampling")
    sampling = subprocess.Popen([*reach().command, "exec", fleet.host("ai").container, "sh", "-c", SAMPLE])
    try:
        done = fleet.up()
    finally:
        as_root(fleet, "rm /tmp/sampling")
        assert sampling.wait(60) == 0
    seen = as_root(fleet, "cat /tmp/seen")
    assert "sudo" in seen.splitlines(), "the sampling saw nothing of the run"
    assert PASSWORD not in seen
    assert PASSWORD not in done.stdout + done.stderr
    assert not as_root(fleet, "find / -xdev -name '*askpass.*' 2>/dev/null; find /run/user -name '*askpass*'").strip()
    assert " 0 changed" in fleet.up().stdout


def test_a_run_that_is_killed_leaves_the_password_in_no_file_and_no_process(fleet: LabFleet) -> None:
    """A host without logind: what answers sudo has no directory that ends with the session."""
    fleet.environment["PADDOCK_SUDO_PASSWORD"] = PASSWORD
    as_root(fleet, "systemctl mask --now systemd-logind.service dbus.socket >/dev/null 2>&1 || true")
    fleet.write(INVENTORY.replace("tree", "tree, less"))
    there = "find /home /root /tmp /run/user -name '*askpass*'"
    run = fleet.start("up", "--lab", "--yes")
    try:
        wait_until(lambda: "ask" in as_root(fleet, there))
        assert run.poll() is None
    finally:
        run.kill()
        run.wait()
    spread = f"grep -rlsF {PASSWORD} /home /root /tmp /run /etc /var || true"
    assert not as_root(fleet, spread).strip()
    wait_until(lambda: not as_root(fleet, f"{there} 2>/dev/null || true").strip())
    as_root(fleet, "install -m 700 -o admin /dev/null /home/admin/.paddock-askpass.k2Jd81mP")
    assert fleet.paddock("plan", "--lab").returncode in (0, 3)
    assert not as_root(fleet, f"{there} 2>/dev/null || true").strip(), "what an earlier version left is still there"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""A host that cannot be reached, or is not the one that it should be: nothing is done to it, and the other one is done all the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.fault_fleet import RESET, SLOW_START, FaultFleet
from tests.share import turn

pytestmark = turn(2, of=3)

SILENCE = "ip route add blackhole $(ip route show default | cut -d' ' -f3)"
SPEECH = "ip route del blackhole $(ip route show default | cut -d' ' -f3)"
"""The other machine, where these tests run, is the way out of a lab host: what is for it vanishes."""


def where(fleet: FaultFleet, user: str = "root", port: int = 22) -> str:
    return re.escape(f"{user}@{fleet.hosts['one'].address}:{port}")


def test_a_port_that_nothing_listens_on(fleet: FaultFleet) -> None:
    fleet.describe(one={"port": 2222})
    fleet.up_fails(rf"{where(fleet, port=2222)} cannot be reached: Connection refused; does sshd run there, and is `port:` right\?")
    fleet.describe()
    fleet.heals()


def test_a_host_whose_sshd_is_stopped(fleet: FaultFleet) -> None:
    with fleet.meanwhile("one", "systemctl stop ssh.socket ssh.service", "systemctl start ssh.service"):
        fleet.up_fails(rf"{where(fleet)} cannot be reached: Connection refused; does sshd run there, and is `port:` right\?")
    fleet.heals()


def test_a_host_that_answers_nothing(fleet: FaultFleet) -> None:
    with fleet.meanwhile("one", SILENCE, SPEECH):
        fleet.up_fails(rf"{where(fleet)} cannot be reached: timed out; is the machine on, and does no firewall stand in between\?")
    fleet.heals()


@pytest.mark.parametrize("met_before", [True, False])
def test_a_name_that_does_not_resolve(fleet: FaultFleet, met_before: bool) -> None:
    fleet.describe(one={"address": "one.home.example", "host_key": fleet.hosts["one"].host_key if met_before else None})
    if not met_before:
        fleet.forget_host_keys()
    fleet.up_fails(r"the name one\.home\.example does not resolve: set `address:` to an IP address, or mend your DNS")
    fleet.describe()
    fleet.heals()


def test_a_key_that_the_host_does_not_know(fleet: FaultFleet, tmp_path: Path) -> None:
    key = new_key(tmp_path / "stranger")
    fleet.describe(one={"ssh_key": str(key)})
    fleet.up_fails(
        rf"{where(fleet)} refused the key {key}: name the right one with `ssh_key:`, or add its public half to .* authorized_keys"
    )
    fleet.describe()
    fleet.heals()


def test_a_key_that_is_not_there(fleet: FaultFleet, tmp_path: Path) -> None:
    """Hosts whose key is there can be deployed without it."""
    fleet.describe(one={"ssh_key": str(tmp_path / "none")})
    told = fleet.up()
    assert told.code == 2
    assert re.search(rf"inventory\.yml:\d+:\d+: hosts\.one\.ssh_key: there is no file {tmp_path}/none on this machine$", told.err.strip())
    assert fleet.up("--limit", "two").code == 0
    fleet.describe()
    fleet.heals()


def test_a_key_that_is_none(fleet: FaultFleet, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("not a key\n")
    fleet.describe(one={"ssh_key": str(tmp_path / "note")})
    fleet.up_fails(rf"{tmp_path}/note is not a private key: name the right one with `ssh_key:`")
    fleet.describe()
    fleet.heals()


def test_a_key_with_a_passphrase_is_the_agents_business(fleet: FaultFleet, tmp_path: Path) -> None:
    key = new_key(tmp_path / "locked", passphrase="a passphrase")
    fleet.describe(one={"ssh_key": str(key)})
    fleet.up_fails(rf"the key {key} has a passphrase: hand it to your SSH agent first, with `ssh-add {key}`")
    fleet.describe()
    fleet.heals()


def test_another_host_key_than_the_pinned_one_stops_before_any_command(fleet: FaultFleet) -> None:
    fleet.describe(one={"host_key": None})  # it is pinned already
    assert fleet.up().code == 0
    fleet.disturb()
    aside = "cd /etc/ssh; mkdir /root/keys; mv ssh_host_* /root/keys; ssh-keygen -q -A; systemctl restart ssh; journalctl -q --sync"
    back = "cd /etc/ssh; rm -f ssh_host_*; mv /root/keys/* .; rmdir /root/keys; systemctl restart ssh"
    with fleet.meanwhile("one", aside, back):
        before = sessions(fleet)
        fleet.up_fails(
            rf"{where(fleet)} does not present the pinned host key, so nothing was sent: this may be a man-in-the-middle attack\. "
            rf"If you know why it changed, take the line that ends with `one` out of {fleet.state}/known_hosts"
        )
        assert sessions(fleet) == before, "it logged in"
    fleet.heals()


def test_a_host_key_that_nobody_has_looked_at_is_not_accepted(fleet: FaultFleet) -> None:
    fleet.describe(one={"host_key": None})
    fleet.forget_host_keys()
    before, key = sessions(fleet), re.escape(fleet.hosts["one"].host_key)
    fleet.up_fails(
        rf"its host key was not accepted \(SHA256:\S+\): if it is the right one, let `paddock up` ask, or set `host_key: {key}` in the inventory"
    )
    assert sessions(fleet) == before, "it logged in"
    assert fleet.up("--accept-host-keys").code == 0
    fleet.heals()


def test_a_host_that_has_moved_is_known_by_its_key(fleet: FaultFleet) -> None:
    fleet.describe(one={"host_key": None})
    pins = fleet.state / "known_hosts"
    pins.write_text(pins.read_text().replace(fleet.hosts["one"].address, "192.0.2.1"))
    assert fleet.up().code == 0
    fleet.heals()


def test_sudo_that_asks_for_a_password_nobody_gave(fleet: FaultFleet) -> None:
    admit = """useradd -m deployer; install -d -m 700 -o deployer /home/deployer/.ssh
        install -m 600 -o deployer /root/.ssh/authorized_keys /home/deployer/.ssh/
        echo 'deployer ALL=(ALL) ALL' >/etc/sudoers.d/deployer"""
    fleet.describe(one={"user": "deployer"})
    with fleet.meanwhile("one", admit, "userdel -rf deployer 2>/dev/null; rm /etc/sudoers.d/deployer"):
        fleet.up_fails("sudo asks for a password: `paddock secrets set sudo` stores it, PADDOCK_SUDO_PASSWORD passes it for one run")
        fleet.inside("one", "echo 'deployer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deployer")
        fleet.heals()
    fleet.describe()


# A run that has begun

STARTS_SLOWLY = f"""printf '[Service]\\nExecStartPre=/bin/sleep %d\\n' >{SLOW_START}; systemctl daemon-reload
    rm -f /run/paddock/caddy.service.started"""  # as if nobody knew what it was started with

LOST = r"service:caddy\.service: the connection was lost; what was at work there may go on: run the same again, it takes up from there"


@pytest.fixture
def starting(fleet: FaultFleet) -> Iterator[subprocess.Popen[str]]:
    """An `up` at the moment when it has Caddy started on host one."""
    with at_a_start(fleet, 5) as process:
        yield process


@contextmanager
def at_a_start(fleet: FaultFleet, seconds: int) -> Iterator[subprocess.Popen[str]]:
    with fleet.meanwhile("one", STARTS_SLOWLY % seconds, f"rm {SLOW_START}; systemctl daemon-reload"), fleet.at_work() as process:
        fleet.wait_until("one", 'test "$(systemctl is-active caddy)" = activating')
        yield process


def test_a_connection_that_is_reset_in_the_middle_of_a_start(fleet: FaultFleet, starting: subprocess.Popen[str]) -> None:
    fleet.inside("one", RESET)
    fleet.failed(fleet.told(starting), LOST)
    fleet.heals()


@pytest.mark.parametrize("how", ["reboots", "loses its power"])
def test_a_host_that_restarts_in_the_middle_of_a_start(fleet: FaultFleet, how: str) -> None:
    """It fails, the other is finished, and the next run takes up from there."""
    with at_a_start(fleet, 20) as starting:
        fleet.restart("one", gently=how == "reboots")
        fleet.failed(fleet.told(starting), LOST)
    fleet.describe()  # an engine may give it another address
    fleet.heals()


def test_a_connection_that_is_reset_in_the_middle_of_a_probe(fleet: FaultFleet) -> None:
    """A probe waits for whoever is changing the host."""
    with fleet.meanwhile("one", "systemd-run --quiet --unit=holder flock /run/paddock/lock sleep 600", "systemctl stop holder"):
        fleet.wait_until("one", "! flock -n -s /run/paddock/lock true")
        with fleet.at_work() as probing:
            fleet.wait_until("one", "pgrep -fx 'flock -s -w 300 9'")
            fleet.inside("one", RESET)
            fleet.failed(fleet.told(probing), r"the connection was lost; .*run the same again, it takes up from there")
    fleet.heals()


def test_a_connection_that_goes_silent_is_given_up(fleet: FaultFleet, starting: subprocess.Popen[str]) -> None:
    with fleet.meanwhile("one", SILENCE, SPEECH):
        fleet.failed(fleet.told(starting), LOST)
    fleet.heals()


def test_ctrl_c_ends_with_a_word_and_the_next_run_converges(fleet: FaultFleet, starting: subprocess.Popen[str]) -> None:
    os.killpg(starting.pid, signal.SIGINT)
    told = fleet.told(starting)
    assert told.code == 1
    at_work = r"interrupted at (two: [^,]+, )?one: caddy: services"  # the other host may be slow
    assert re.fullmatch(f"{at_work}: what was at work on a host may go on; run the same again, it takes up from there", told.err.strip())
    fleet.heals()


def test_kill_9_leaves_no_lock_and_the_next_run_converges(fleet: FaultFleet, starting: subprocess.Popen[str]) -> None:
    os.killpg(starting.pid, signal.SIGKILL)
    assert fleet.told(starting).code == -signal.SIGKILL
    fleet.heals()


def new_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path


def sessions(fleet: FaultFleet) -> str:
    """Who has logged in to host one over SSH since it was made."""
    return fleet.inside("one", "journalctl --sync; journalctl -q -o cat -u ssh | grep '^Accepted' || true")

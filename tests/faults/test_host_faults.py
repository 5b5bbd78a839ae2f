"""What can be wrong on a host, and on this machine: said in one line that names host and resource, and nothing is half done."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.engine import as_root
from tests.faults.fault_fleet import HOSTS, LANDS, FaultFleet

PRECIOUS = "/root/precious"
"""Somebody else's, and what a planted link leads to."""

UNTOUCHED = f"stat -c '%n %U %a %Y' {PRECIOUS} {PRECIOUS}/*; cat {PRECIOUS}/*"


@contextmanager
def full(fleet: FaultFleet, directory: str, host: str = "one") -> Iterator[None]:
    """Inside the block the directory lies on a file system of its own, with what was in it, and no room."""
    crowd = f"""mkdir /root/aside; cp -a {directory}/. /root/aside; mount -t tmpfs -o size=256k,mode=755 full {directory}; cp -a /root/aside/. {directory}
        dd if=/dev/zero of={directory}/filler bs=1k 2>/dev/null || true"""
    with fleet.meanwhile(host, crowd, f"umount {directory}; rm -r /root/aside"):
        yield


# A clock that is wrong


def test_where_the_clocks_differ_nothing_is_signed(fleet: FaultFleet, tmp_path: Path) -> None:
    declared = fleet.lab.inventory.read_text()
    fleet.lab.write(json.dumps({**json.loads(declared), "clients": {"laptop": {}, "phone": {}}}))
    (tmp_path / "sitecustomize.py").write_text("import time\nnow = time.time\ntime.time = lambda: now() - 600\n")
    fleet.lab.environment["PYTHONPATH"] = str(tmp_path)
    try:
        told = fleet.up()
        before = {path: path.read_bytes() for path in (fleet.state / "certs").rglob("*") if path.is_file()}
        renewed = fleet.lab.paddock("certs", "renew", "--all", "--lab")
    finally:
        del fleet.lab.environment["PYTHONPATH"]
        fleet.lab.write(declared)
    assert told.code == 1
    for host in HOSTS:
        (why,) = told.why(host)
        words = (
            rf"{host}: its clock is \+(599|60[01]) s off this machine's: certificates would not be valid there\. Set one of the two right"
        )
        assert re.match(words, why), told.err
    assert not list((fleet.state / "certs").rglob("phone*"))
    assert renewed.returncode == 1 and "hosts say another time than this machine (" in renewed.stderr, renewed.stdout + renewed.stderr
    assert {path: path.read_bytes() for path in (fleet.state / "certs").rglob("*") if path.is_file()} == before
    fleet.heals()


# A full disk


def test_a_full_disk_where_a_file_is_to_land(fleet: FaultFleet) -> None:
    with full(fleet, "/etc/caddy"):
        fleet.up_fails(rf"file:{LANDS}: cp: error writing '.*': No space left on device")
        assert fleet.inside("one", f"ls -A {LANDS.rpartition('/')[0]}").split() == ["admitted", "clients"], "a part of a file was left"
    fleet.heals()


def test_a_full_disk_where_the_files_are_received(fleet: FaultFleet) -> None:
    with full(fleet, "/var/lib/paddock"):
        fleet.up_fails(r"directory:/var/lib/paddock: .*: No space left on device")
        assert "stage" not in fleet.inside("one", "ls -A /var/lib/paddock")
    fleet.heals()


def test_a_file_of_somebody_elses_is_not_replaced_where_its_backup_has_no_room(fleet: FaultFleet) -> None:
    """The manifest forgets the line, as if Paddock came here for the first time."""
    caddyfile = "/etc/caddy/Caddyfile"
    forget = f"sed -i '\\|{caddyfile}|d' /var/lib/paddock/manifest; rm -f /var/lib/paddock/backup{caddyfile}"
    theirs = f"cp -a {caddyfile} /root/Caddyfile; {{ echo '# theirs'; head -c 3000 /dev/zero | tr '\\0' '#'; }} >{caddyfile}; sha256sum {caddyfile}"
    before = fleet.inside("one", f"{forget}; {theirs}")
    crowd = "mkdir -p /var/lib/paddock/backup; mount -t tmpfs -o size=4k full /var/lib/paddock/backup; echo filler >/var/lib/paddock/backup/filler"
    with fleet.meanwhile("one", crowd, "umount /var/lib/paddock/backup"):
        fleet.up_fails(rf"line:{caddyfile}: import /etc/caddy/paddock/\*\.caddy: could not be kept as \S+, so it was left as it is")
        assert fleet.inside("one", f"sha256sum {caddyfile}") == before
    fleet.heals()
    fleet.inside("one", f"grep -q '^# theirs' /var/lib/paddock/backup{caddyfile}; cp -a /root/Caddyfile {caddyfile}")


@pytest.fixture
def full_state(fleet: FaultFleet, tmp_path: Path) -> Iterator[Path]:
    """The state on a file system of this machine that has no room."""
    size_mib = 1 + sum(each.lstat().st_blocks for each in fleet.state.rglob("*")) * 512 // 2**20
    root = as_root("mount a file system")
    subprocess.run([*root, "mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "full", str(tmp_path)], check=True)
    try:
        subprocess.run(["cp", "-a", str(fleet.state), str(tmp_path)], check=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={tmp_path}/filler", "bs=4k"], capture_output=True)
        fleet.lab.environment["PADDOCK_STATE"] = str(tmp_path)
        yield tmp_path
    finally:
        fleet.lab.environment.pop("PADDOCK_STATE", None)
        subprocess.run([*root, "umount", str(tmp_path)], check=True)


def test_a_full_disk_here_stops_before_anything_is_done(fleet: FaultFleet, full_state: Path) -> None:
    told = fleet.up()
    assert (told.code, told.err) == (1, f"{full_state}/fault/lock: cannot be written: No space left on device\n")
    assert not fleet.inside("one", f"ls {LANDS} 2>&1 || true").startswith(LANDS), "it was done"
    (full_state / "filler").unlink()
    fleet.heals()


# A busy port


def test_a_port_that_another_program_listens_on(fleet: FaultFleet) -> None:
    listen = "perl -MIO::Socket::INET -e 'push @s, IO::Socket::INET->new(LocalAddr => \"127.0.0.1:2019\", Listen => 1, ReuseAddr => 1) or die; sleep 600'"
    squat = f"systemctl stop caddy; systemd-run --quiet --unit=squatter {listen}; for i in $(seq 100); do ! ss -Hltn | grep -q :2019 || exit 0; sleep 0.1; done"
    with fleet.meanwhile("one", squat, "systemctl stop squatter"):
        fleet.up_fails(
            r"port 2019/tcp, which caddy\.service is to listen on, is taken by squatter\.service: stop it, or set another port in roles\.caddy"
        )
        assert fleet.inside("one", "systemctl is-active squatter").strip() == "active", "it was stopped"
    fleet.heals()


# A planted link


@pytest.fixture
def precious(fleet: FaultFleet) -> Iterator[None]:
    """A directory with a file in it, neither of which may be touched."""
    before = fleet.inside(
        "one", f"mkdir -m 700 {PRECIOUS}; echo mine >{PRECIOUS}/mine; chmod 600 {PRECIOUS}/mine; touch -d yesterday {PRECIOUS}; {UNTOUCHED}"
    )
    yield
    after = fleet.inside("one", f"{UNTOUCHED}; rm -r {PRECIOUS}")
    assert after == before


def test_a_link_where_a_file_is_to_land_is_replaced_and_not_followed(fleet: FaultFleet, precious: None) -> None:
    fleet.inside("one", f"ln -s {PRECIOUS}/mine {LANDS}")
    assert fleet.up().code == 0
    assert fleet.inside("one", f"stat -c '%F %U %a' {LANDS}").strip() == "regular file root 644"
    fleet.heals()


def test_a_link_that_was_there_before_paddock_comes_back_when_its_file_goes(fleet: FaultFleet, precious: None) -> None:
    notes = "/etc/systemd/system/caddy.service.d/40-restart.conf"
    fleet.inside("one", f"sed -i '\\|file:{notes}|d' /var/lib/paddock/manifest; ln -sf {PRECIOUS}/mine {notes}")
    assert fleet.up().code == 0
    assert fleet.inside("one", f"stat -c %F {notes}; readlink /var/lib/paddock/backup{notes}").splitlines() == [
        "regular file",
        f"{PRECIOUS}/mine",
    ]
    fleet.heals()
    fleet.inside("one", f"sed -i 's|^kept \\(file:{notes}\\)|put \\1|' /var/lib/paddock/manifest; rm /var/lib/paddock/backup{notes}")


@pytest.mark.parametrize("directory", ["/etc/caddy/paddock", "/run/paddock", "/var/lib/paddock"])
def test_a_link_where_a_directory_is_to_be_is_refused(fleet: FaultFleet, precious: None, directory: str) -> None:
    with fleet.meanwhile(
        "one", f"mv {directory} {directory}.aside; ln -s {PRECIOUS} {directory}", f"rm {directory}; mv {directory}.aside {directory}"
    ):
        fleet.up_fails(rf"directory:{directory}: .*a symbolic link to {PRECIOUS}: remove it.*")
    fleet.heals()


def test_a_link_where_the_lock_is_is_replaced(fleet: FaultFleet, precious: None) -> None:
    fleet.inside("one", f"ln -sf {PRECIOUS}/mine /run/paddock/lock")
    assert fleet.up().code == 0
    assert fleet.inside("one", "stat -c %F /run/paddock/lock").strip() == "regular empty file"
    fleet.heals()


def test_a_directory_where_a_file_is_to_land_is_refused(fleet: FaultFleet) -> None:
    with fleet.meanwhile("one", f"mkdir {LANDS}; touch {LANDS}/mine", f"rm -r {LANDS}"):
        fleet.up_fails(rf"file:{LANDS}: a directory stands where the file is to be: {LANDS}")
        assert fleet.inside("one", f"ls {LANDS}").split() == ["mine"]
    fleet.heals()


# Packages

MISSING = "dpkg --purge hello >/dev/null"
"""Of the packages that the inventory asks for, the one that nothing needs."""


def test_a_package_that_does_not_exist(fleet: FaultFleet) -> None:
    fleet.describe(one={"roles": {"base": {"time": "elsewhere", "packages": ["hello", "no-such-package"]}}})
    fleet.up_fails(r"package:no-such-package: E: Unable to locate package no-such-package")
    fleet.describe()
    fleet.heals()


def test_a_mirror_that_does_not_answer(fleet: FaultFleet) -> None:
    nobody = "/etc/apt/apt.conf.d/99nobody"
    unplug = f"""echo 'Acquire::http::Proxy "http://127.0.0.1:9/"; Acquire::https::Proxy "http://127.0.0.1:9/"; Acquire::Retries "0";' >{nobody}
        find /var/lib/apt/lists -type f -delete; rm -f /var/lib/apt/periodic/update-success-stamp"""
    with fleet.meanwhile("one", f"{MISSING}; {unplug}", f"rm {nobody}"):
        fleet.up_fails(r"package:hello: E: Failed to fetch http\S+ .*127\.0\.0\.1:9.*")
    fleet.heals()


BROKEN = """mkdir -p /root/pkg/DEBIAN; cd /root; printf 'Package: broken\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nDescription: broken\\n' >pkg/DEBIAN/control
    printf '#!/bin/sh\\n%s\\n' '{script}' >pkg/DEBIAN/postinst; chmod 755 pkg/DEBIAN/postinst; dpkg-deb -b pkg broken.deb >/dev/null; dpkg -i broken.deb >/dev/null 2>&1 || true"""
"""A package that is somebody else's, half installed."""

GONE = "printf '#!/bin/sh\\n' >/var/lib/dpkg/info/broken.postinst; dpkg --configure -a >/dev/null; dpkg -P broken >/dev/null; rm -r /root/pkg /root/broken.deb"


def test_a_package_that_cannot_be_configured(fleet: FaultFleet) -> None:
    with fleet.meanwhile("one", f"{MISSING}; {BROKEN.format(script='echo no luck >&2; exit 1')}", GONE):
        fleet.up_fails(
            r"package:broken: dpkg: error processing package broken \(--configure\): "
            r"installed broken package post-installation script subprocess returned error exit status 1"
        )
    fleet.heals()


def test_a_dpkg_that_was_interrupted_is_brought_to_its_end(fleet: FaultFleet) -> None:
    killed_once = "[ -e /root/pkg/killed ] || { touch /root/pkg/killed; kill -9 $PPID; }"
    fleet.inside("one", f"{MISSING}; {BROKEN.format(script=killed_once)}")
    assert fleet.inside("one", "dpkg --audit").strip(), "it was not interrupted"
    fleet.heals()
    assert not fleet.inside("one", "dpkg --audit").strip()
    fleet.inside("one", GONE)


def test_the_journal_of_a_dpkg_that_died_at_its_end_is_taken_up(fleet: FaultFleet) -> None:
    fleet.inside("one", "dpkg -s bash >/var/lib/dpkg/updates/0000")  # every package is installed, and yet apt would refuse all work
    fleet.heals()
    assert not fleet.inside("one", "ls /var/lib/dpkg/updates")


# A service that cannot start


def test_a_configuration_that_caddy_refuses_leaves_the_old_one_serving(fleet: FaultFleet) -> None:
    spoil = "cp -a /etc/caddy/Caddyfile /root/Caddyfile; echo 'nonsense.home.example { bogus }' >>/etc/caddy/Caddyfile; rm -f /run/paddock/caddy.service.started"
    serving = "curl -fsS http://127.0.0.1:2019/config/; systemctl show -P MainPID caddy"
    before = fleet.inside("one", serving)
    with fleet.meanwhile("one", spoil, "cp -a /root/Caddyfile /etc/caddy/Caddyfile"):
        fleet.up_fails(r"Caddy refuses its Caddyfile as it is: `caddy validate --config /etc/caddy/Caddyfile` on the host says why")
        assert fleet.inside("one", serving) == before
    fleet.heals()


def test_a_host_of_another_distribution(fleet: FaultFleet) -> None:
    pretend = "cat /etc/os-release >/root/os-release; printf 'ID=fedora\\nVERSION_ID=41\\n' >/etc/os-release"
    with fleet.meanwhile("one", pretend, "cat /root/os-release >/etc/os-release"):
        fleet.up_fails(
            r"it runs fedora 41; Paddock needs apt and systemd as on debian 12 or later, ubuntu 22\.04 or later, raspbian 12 or later"
        )
    fleet.heals()


def test_all_is_well_in_the_end(shared: FaultFleet) -> None:
    shared.describe()
    done = shared.lab.paddock("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"one: \d+ checks passed", done.stdout)

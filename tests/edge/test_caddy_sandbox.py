"""Caddy runs in a sandbox, and what it is for works in it: the tests beside this one reload it, revoke through it, and have it ask ACME."""

from __future__ import annotations

import pytest
from edge_fleet import HOSTS

from tests.lab_fleet import LabFleet

doors = pytest.mark.parametrize("host", HOSTS)

INSIDE = 'nsenter --mount --target "$(systemctl show -P MainPID caddy)" runuser -u caddy -- sh -c'


@doors
def test_no_unit_on_the_host_is_more_exposed_than_2_0(edge: LabFleet, host: str) -> None:
    """As the host's own systemd counts it."""
    assert edge.exposed(host) == ""


@doors
def test_who_breaks_in_there_writes_nowhere_else_and_has_one_right(edge: LabFleet, host: str) -> None:
    status = edge.on(host, 'cat "/proc/$(systemctl show -P MainPID caddy)/status"')
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (int(found["CapBnd"], 16), int(found["CapAmb"], 16)) == (1 << 10, 1 << 10)  # CAP_NET_BIND_SERVICE
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    edge.on(host, "install -d -m 777 /srv/everybodys")
    for path, can in (("/var/lib/caddy", True), ("/run/caddy", True), ("/srv/everybodys", False), ("/var/tmp", True)):
        tried = edge.on(host, f"{INSIDE} 'touch {path}/mark' 2>/dev/null && echo written || true").strip()
        assert (tried == "written") == can, path
    assert edge.on(host, "ls /var/tmp/mark 2>/dev/null || true") == ""  # that was its own
    assert edge.on(host, f"{INSIDE} 'ls /home /root' 2>/dev/null || true") == ""
    edge.on(host, "rm -rf /srv/everybodys /var/lib/caddy/mark /run/caddy/mark")


@doors
def test_no_copy_of_the_configuration_with_its_keys_stays_on_disk(edge: LabFleet, host: str) -> None:
    older = "/var/lib/caddy/.config/caddy/autosave.json"
    edge.on(host, f"runuser -u caddy -- sh -c 'mkdir -p {older.rpartition('/')[0]}; echo key >{older}'; systemctl restart caddy")
    assert edge.on(host, "find / -xdev -name autosave.json -not -path '/tmp/systemd-private-*' 2>/dev/null || true") == ""

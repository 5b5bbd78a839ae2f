"""What the watchdog must show: that it looks, and that nothing it looks at is lost."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from roles.watchdog.plan import TIMER, UNIT


def check_the_timer_is_set(host: TestinfraHost) -> None:
    assert host.check_output("systemctl show --property=SubState --value %s", TIMER) in ("waiting", "running")


def check_a_round_finds_every_server_well(host: TestinfraHost) -> None:
    done = host.run("systemctl start %s", UNIT)
    said = host.run("journalctl --quiet --output=cat --priority=err --lines=5 --unit=%s", UNIT).stdout.strip()
    assert done.rc == 0, said or done.stderr

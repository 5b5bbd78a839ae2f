"""What the watchdog must show: that it looks, and that nothing it looks at is lost."""

from __future__ import annotations

from testinfra.host import Host as TestinfraHost

from roles.watchdog.plan import SPEED_S, SPEED_WAIT_S, TIMER, UNIT

ROUND_S = 60 + SPEED_WAIT_S + SPEED_S
"""A round over servers that are well takes as long as one token takes, and a look at their speed. Whatever hangs, another check says."""


def check_the_timer_is_set(host: TestinfraHost) -> None:
    assert host.check_output("systemctl show --property=SubState --value %s", TIMER) in ("waiting", "running")


def check_a_round_finds_every_server_well(host: TestinfraHost) -> None:
    done = host.run("timeout %s systemctl start %s", str(ROUND_S), UNIT)
    assert done.rc != 124, f"a round does not end within {ROUND_S} s: a server hangs"
    said = host.run("journalctl --quiet --output=cat --priority=err --lines=5 --unit=%s", UNIT).stdout.strip()
    assert done.rc == 0, said or done.stderr

"""What a host must show to be fit for the rest: above all the right time, for a certificate is valid or not by the clock."""

from __future__ import annotations

import time

from testinfra.host import Host as TestinfraHost

from roles.base.settings import BaseSettings

CLOCKS_MAY_DIFFER_S = 60
"""Certificates begin five minutes before they are made: a clock that is off by less than that refuses none of them."""

SYNCHRONISED = "timedatectl show --property=NTPSynchronized --value"


def check_clock_is_synchronised(host: TestinfraHost, settings: BaseSettings) -> None:
    if settings.time != "elsewhere":
        # The first answer of a time server takes a few seconds.
        said = host.run(f'for try in $(seq 30); do [ "$({SYNCHRONISED})" = yes ] && exit 0; sleep 1; done; exit 1')
        assert said.rc == 0, (
            f"{settings.time} has not set the clock in 30 s: is a time server within reach? (timedatectl timesync-status, chronyc sources)"
        )


def check_clock_agrees_with_ours(host: TestinfraHost) -> None:
    theirs, ours = int(host.check_output("date +%s")), int(time.time())
    assert abs(theirs - ours) < CLOCKS_MAY_DIFFER_S, f"the host's clock is {theirs - ours:+d} s away from this machine's"


def check_programs_that_other_checks_call_are_there(host: TestinfraHost) -> None:
    missing = [name for name in ("curl", "ss", "sha256sum", "systemctl") if not host.exists(name)]
    assert not missing, f"not found on the host: {', '.join(missing)}"

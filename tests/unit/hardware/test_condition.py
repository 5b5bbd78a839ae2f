"""How a machine is doing, out of what real ones print, in words."""

from __future__ import annotations

import os
import subprocess

import pytest

from control.deployment.condition import reboots
from facts.condition import CONDITION_SH, Condition, condition

# In the form of Raspberry Pi OS on a Raspberry Pi 5; the bits are those of its documentation.
PI = """#temperature
cpu-thermal 54850
#throttled
throttled={bits}
#fault
#pages-declared
#pages
"""

HALO = """#temperature
acpitz 20000
#throttled
#fault
#pages-declared
31457280
#pages
16371200
#page-bytes
4096
"""


def told(output: str) -> list[str]:
    return list(condition(output.splitlines()).lines())


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x0", "55 °C; not throttled since its start"),
        ("0x50005", "55 °C; held back now by too little voltage from its power supply and throttling"),
        ("0x50000", "55 °C; held back before, since its start, by too little voltage from its power supply and throttling"),
        (
            "0xe0008",
            "55 °C; held back now by the soft temperature limit; held back before, since its start, by a capped clock and throttling",
        ),
    ],
)
def test_a_raspberry_pis_bits_are_told_in_words(bits: str, words: str) -> None:
    assert told(PI.format(bits=bits)) == [words]


def test_a_firmware_that_answers_with_an_error_is_no_throttling() -> None:
    assert condition(PI.format(bits="").replace("throttled=", "VCHI initialization failed").splitlines()).throttled is None


def test_a_limit_that_the_kernel_was_not_started_with_makes_a_reboot_due() -> None:
    assert told(HALO) == ["a reboot is due: until then the graphics may take 63950 MiB, not 122880"]
    assert told(HALO.replace("16371200", "31457280")) == []


def test_where_the_driver_is_not_loaded_no_reboot_is_asked_for() -> None:
    assert told(HALO.replace("16371200\n", "")) == []


def test_lost_servers_come_first() -> None:
    fault = "chat-2 gives no token in 30 s, and nothing moves in it"
    assert told(PI.format(bits="0x0").replace("#fault\n", f"#fault\n{fault}\n")) == [fault, "55 °C; not throttled since its start"]


def test_the_hottest_of_several_processors_counts_and_no_other_thermometer() -> None:
    zones = "#temperature\nx86_pkg_temp 61000\nx86_pkg_temp 64000\nnvme 90000\niwlwifi_1 \n"
    assert condition(zones.splitlines()).temperature_c == 64.0


def test_the_command_works_where_there_is_nothing_of_all_this() -> None:
    done = subprocess.run(["/bin/sh", "-s"], input=CONDITION_SH, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["#page-bytes", str(os.sysconf("SC_PAGESIZE"))]
    found = condition(done.stdout.splitlines())
    assert (found.throttled, found.faults, found.reboot) == (None, (), "")
    assert isinstance(found, Condition)


def test_a_reboot_is_told_of_the_host_that_it_is_due_on() -> None:
    machines = {"halo": condition(HALO.splitlines()), "pi": condition(PI.format(bits="0x0").splitlines())}
    assert list(reboots(machines)) == ["a reboot is due on halo: until then the graphics may take 63950 MiB, not 122880"]


OF_PACKAGES = "from which it gets its packages"


@pytest.mark.parametrize(
    ("output", "faults"),
    [
        ("#health\n0 llama-server\n28 chat\n7 embed", ["chat hangs: no answer to /health in 10 s", "embed does not answer (curl: 7)"]),
        ("#acted\n125 chat.small.restarted", ["the watchdog restarted chat.small 2 min ago: see journalctl -u paddock-watchdog"]),
        ("#acted\n3601 chat.restarted\nx y.restarted", []),
        (
            "#disk\n/dev/vda 1000000 940000 60000 94% /\n/dev/vdb 9000000 8640000 360000 96% /var",
            ["the disk of /var is 96% full: 351 MiB are free"],
        ),
        ("#disk\noverlay - - - - /", []),
        ("#memory\nMemTotal: 8000000 kB\nMemAvailable: 160000 kB", ["memory: 156 MiB of 7812 are available"]),
        ("#memory\nMemTotal: 8000000 kB\nMemAvailable: 800000 kB", []),
        (
            "#pressure\nsome avg10=40.00 avg60=50.00 avg300=1.00 total=1\nfull avg10=9.00 avg60=12.34 avg300=1.00 total=1",
            ["memory: all programs waited for it during 12 % of the last minute"],
        ),
        ("#pressure\nsome avg10=40.00 avg60=50.00 avg300=1.00 total=1\nfull avg10=9.00 avg60=2.34 avg300=1.00 total=1", []),
        (
            "#names\ndeb.debian.org\nsecurity.debian.org",
            ["DNS: no name resolves, not even deb.debian.org, " + OF_PACKAGES],
        ),
        ("#names\ngone.example\ndeb.debian.org\n192.0.2.1 STREAM deb.debian.org", []),
    ],
)
def test_what_is_wrong_with_a_machine_is_a_fault(output: str, faults: list[str]) -> None:
    assert list(condition(output.splitlines()).faults) == faults

"""Stops a host's script at an exact moment: before or after it calls a program with certain arguments."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.snapshot import inside

KILL = "kill -9 $PPID; exit"
"""Ends the script that called, and does not do what it called for."""

HOLD = "until [ -e /run/tripwire/released ]; do sleep 0.02; done"
"""Keeps the script that called waiting."""

SHIM = """#!/bin/sh
trip() {{ mkdir /run/tripwire/tripped 2>/dev/null || return 0; echo $PPID $$ >/run/tripwire/caller; {then}; }}
case "$*" in {arguments}) if {when}; then {order}; fi;; esac
exec {real} "$@"
"""


@dataclass(frozen=True)
class Call:
    """A call of `program` whose arguments fit a shell pattern, while a shell condition holds: the moment before it, or the moment after."""

    program: str
    arguments: str = "*"
    after: bool = False
    when: str = "true"


@dataclass(frozen=True)
class Tripwire:
    container: str

    def tripped(self, timeout_s: float = 300) -> None:
        """Returns once a script has come by."""
        until(self.container, "[ -s /run/tripwire/caller ]", timeout_s)

    def release(self) -> None:
        inside(self.container, "mkdir -p /run/tripwire; touch /run/tripwire/released")  # which a restart has emptied

    def kill_caller(self) -> None:
        """Ends the script that is held, and what holds it."""
        inside(self.container, "kill -9 $(cat /run/tripwire/caller)")


@contextmanager
def tripwire(container: str, call: Call, then: str) -> Iterator[Tripwire]:
    """The first such call does `then`."""
    shim = f"/usr/local/sbin/{call.program}"
    real = inside(container, f"command -v {call.program}").strip()
    order = f'{real} "$@"; trip; exit' if call.after else "trip"
    text = SHIM.format(then=then, arguments=call.arguments, when=call.when, order=order, real=real)
    inside(container, f"rm -rf /run/tripwire; mkdir /run/tripwire; echo {shlex.quote(text)} >{shim}; chmod 755 {shim}")
    try:
        yield Tripwire(container)
    finally:
        inside(container, f"rm -f {shim}; mkdir -p /run/tripwire; touch /run/tripwire/released")


def until(container: str, condition: str, timeout_s: float = 300) -> None:
    """Waits in the host for a shell condition. Raises LabError where that takes too long."""
    inside(container, f"timeout {timeout_s} sh -c {shlex.quote(f'until {condition}; do sleep 0.02; done')}")

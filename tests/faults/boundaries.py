"""`paddock` that stops at one of its boundaries: `boundaries.py COUNTED AT DEADLINE_S ARGUMENT…`.

A boundary is where what hosts do, what this machine keeps and what it knows come apart: before a command or a file goes to a host, once a
command has all that it reads, before a file of the fleet's state takes its name. Each adds a line to the file COUNTED. At number AT, from
1 up, the process stops as by SIGSTOP. Hosts take a switch back DEADLINE_S seconds after they were last heard of.
"""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import os
import signal
import sys
from pathlib import Path
from typing import Any

import paramiko

import control.lifecycle.upgrade
from cli import command

assert control.ssh.cooperative

RENAMES = ("os.rename", "os.link")
"""Of Python's audit events: https://docs.python.org/3/library/audit_events.html"""


class Boundaries:
    def __init__(self, counted: Path, at: int) -> None:
        self.at, self.number = at, 0
        self.counted = counted.open("w")

    def comes(self, what: str) -> None:
        self.number += 1
        print(what, file=self.counted, flush=True)
        if self.number == self.at:
            os.kill(os.getpid(), signal.SIGSTOP)

    def of_files(self, state: str) -> None:
        def happens(event: str, arguments: tuple[Any, ...]) -> None:
            if event in RENAMES and state in str(arguments[1]):
                self.comes(f"before {Path(str(arguments[1])).name} takes its name")

        sys.addaudithook(happens)

    def of_commands(self) -> None:
        channel: Any = paramiko.Channel
        asks, reads, ends_input = channel.exec_command, channel.invoke_subsystem, channel.shutdown_write

        def exec_command(self_: paramiko.Channel, script: str) -> None:
            self.comes("before a command")
            asks(self_, script)

        def invoke_subsystem(self_: paramiko.Channel, name: str) -> None:
            self.comes("before a file")
            reads(self_, name)

        def shutdown_write(self_: paramiko.Channel) -> None:
            first = not self_.eof_sent
            ends_input(self_)
            if first:
                self.comes("once a command has what it reads")

        channel.exec_command, channel.invoke_subsystem, channel.shutdown_write = exec_command, invoke_subsystem, shutdown_write


if __name__ == "__main__":
    counted, at, deadline_s, *arguments = sys.argv[1:]
    control.lifecycle.upgrade.DEADLINE_S = int(deadline_s)
    boundaries = Boundaries(Path(counted), int(at))
    boundaries.of_files("/.paddock/")
    boundaries.of_commands()
    sys.argv[1:] = arguments
    command()

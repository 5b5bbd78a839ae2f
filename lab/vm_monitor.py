"""A running QEMU's monitor: what of it is forwarded where, and whether its CPU runs."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from lab.engine import LabError

TIMEOUT_S = 30

FORWARDED = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+(?P<address>\S+)\s+(?P<port>\d+)\s+\S+\s+(?P<inside>\d+)")
"""A line of `info usernet`: `TCP[HOST_FORWARD]  15  127.77.3.9  443  10.0.2.15  443  0  0`."""


class Monitor:
    """A conversation in QMP, a line of JSON each: https://www.qemu.org/docs/master/interop/qmp-spec.html"""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.stream.readline()  # the greeting
        self._execute("qmp_capabilities")

    @property
    def status(self) -> str:
        """`running`, or `internal-error` where an accelerator came upon an instruction that it cannot run."""
        return str(self._execute("query-status")["status"])

    def forwarded(self) -> dict[int, int]:
        """Port on this machine → port inside."""
        return forwarded(self._person("info usernet"))

    def forward(self, address: str, port: int, inside: int) -> str:
        """Forwards a port, and gives QEMU's words where that failed."""
        return self._person(f"hostfwd_add net tcp:{address}:{port}-:{inside}").strip()

    def stop_forwarding(self, address: str, port: int) -> None:
        self._person(f"hostfwd_remove net tcp:{address}:{port}")

    def _person(self, line: str) -> str:
        return str(self._execute("human-monitor-command", {"command-line": line}))

    def _execute(self, command: str, arguments: dict[str, str] | None = None) -> Any:
        self.stream.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
        self.stream.flush()
        while line := self.stream.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"QEMU's monitor refuses {command}: {answer['error'].get('desc')}")
        raise LabError(f"QEMU ended while it was asked for {command}")


@contextmanager
def monitor(place: Path) -> Iterator[Monitor]:
    """The monitor of the machine whose files lie in `place`. Raises LabError where it does not answer."""
    # Through a descriptor of the directory: a socket's path may be no longer than 107 bytes, a cache's may.
    descriptor = os.open(place, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(f"/proc/self/fd/{descriptor}/monitor")
            with connection.makefile("rw", encoding="utf-8") as stream:  # left open, it would keep QEMU from answering the next one
                yield Monitor(stream)
    except (OSError, ValueError) as error:
        raise LabError(f"QEMU's monitor does not answer ({error})") from None
    finally:
        os.close(descriptor)


def forwarded(usernet: str) -> dict[int, int]:
    """What `info usernet` says of forwarded ports: port on this machine → port inside."""
    return {int(found["port"]): int(found["inside"]) for found in FORWARDED.finditer(usernet)}

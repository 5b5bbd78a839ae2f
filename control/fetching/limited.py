"""Another program that fetches: for so long, and no file of it larger than a bound."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from inventory.bounds import Bound

LIMITED = 'ulimit -f "$1"; shift; exec "$@"'
"""In blocks of 512 bytes (POSIX), which bash counts so only where it is called sh."""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and the end of what it said. `status` is None of one that was stopped because it took too long."""

    status: int | None
    said: str


def limited_command(command: Sequence[str], bound: Bound) -> list[str]:
    """The command, with which no file grows beyond the bound."""
    return ["/bin/sh", "-c", LIMITED, "sh", str(bound.size // 512), *command]


def limited(command: Sequence[str], bound: Bound, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Ended:
    """Runs a command within a bound of time and of bytes a file, what it says included."""
    with TemporaryFile() as output:
        program = subprocess.Popen(
            limited_command(command, bound),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = program.wait(bound.seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
        output.seek(-min(output.seek(0, os.SEEK_END), bound.memory or bound.size), os.SEEK_END)
        return Ended(status, output.read().decode(errors="replace").strip())

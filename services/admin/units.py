"""What systemd does for the service: units, of the system or of an account, and the notes of what they were started with."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path

from .answers import Refusal
from .configuration import Server

COMMAND_S = 4500
"""For servers to end what they answer, an hour at most, and to stop: a model may be in the middle of being read."""


def restart(account: str, *units: str) -> None:
    """Raises Refusal where systemd does not."""
    done = systemctl(account, "restart", *units)
    if done.returncode:
        raise Refusal(500, f"systemd does not restart {' '.join(units)}: {done.stderr.strip()[-500:]}")


def systemctl(account: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`systemctl`, or an account's `systemctl --user`."""
    return _as(account, "systemctl", *(["--user"] if account else []), *arguments)


def forget_note(server: Server, notes: Path) -> None:
    """The note of what it was started with no longer holds: with it, the next `up` would mend the file, and not restart the router."""
    if server.account:
        directory = f"/run/user/{pwd.getpwnam(server.account).pw_uid}/paddock"
        _as(server.account, "rm", "-f", f"{directory}/{server.account}--{server.unit}.started")
    else:
        (notes / f"{server.unit}.started").unlink(missing_ok=True)


def _as(account: str, *command: str) -> subprocess.CompletedProcess[str]:
    """As the account, where there is one; by way of systemd, for this process can become nobody."""
    if account:
        manager = f"--setenv=XDG_RUNTIME_DIR=/run/user/{pwd.getpwnam(account).pw_uid}"
        command = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", f"--uid={account}", manager, *command)
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S)

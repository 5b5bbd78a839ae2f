"""Becoming root where sudo asks for a password.

pyinfra would hand the password to sudo in an environment variable on a command line, where every account of the host can read it. So the
program that answers sudo's question is made here, and pyinfra is told that it is there already. The password comes through standard input,
stays in the memory of one process on the host, and goes with the connection: a killed run leaves none there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from getpass import getpass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from inventory.errors import PaddockError
from resources import UNOPENED

if TYPE_CHECKING:
    from paramiko import Channel, Transport
    from pyinfra.api import Host as Target

ANSWER = (Path(__file__).parent / "askpass.sh").read_text()

ANSWERING = "paddock_askpass"
"""The channel to the process that answers, among what pyinfra knows of a connection."""

TIMEOUT_S = 15
LONGEST = 4096
"""Bytes that are read of what a host says here."""

VARIABLE = "PADDOCK_SUDO_PASSWORD"


class SudoAsks(PaddockError):
    """sudo wants a password, and was given none or a wrong one."""


def password_for(host: str, secrets: Mapping[str, str]) -> str | None:
    """From PADDOCK_SUDO_PASSWORD, or the secret `sudo.HOST` or `sudo`; None where there is none: sudo may not ask for one."""
    stored = (secrets[name] for name in (f"sudo.{host}", "sudo") if name in secrets)
    return os.environ.get(VARIABLE) or next((password for password in stored if password != UNOPENED), None)


def ask_once() -> str:
    """The password, from the person at the terminal, kept for the rest of this run. Raises PaddockError where nobody is there."""
    if not sys.stdin.isatty():
        raise PaddockError(f"sudo asks for a password: `paddock secrets set sudo` stores it, {VARIABLE} passes it for one run")
    os.environ[VARIABLE] = getpass("sudo password: ")
    return os.environ[VARIABLE]


def hand_over(target: Target, link: Transport, password: str) -> None:
    """Has the host answer sudo until the connection ends. Raises PaddockError where that fails."""
    take_back(target)
    channel = link.open_session(timeout=TIMEOUT_S)
    channel.settimeout(TIMEOUT_S)
    channel.exec_command(f"sh -c {quote(ANSWER)}")
    channel.sendall(os.fsencode(f"{password}\n"))
    program = channel.makefile("rb").readline(LONGEST).decode(errors="replace").strip()
    if not program:
        raise PaddockError(f"cannot hand sudo its password: {channel.makefile_stderr('rb').read(LONGEST).decode(errors='replace').strip()}")
    target.connector_data[ANSWERING] = channel
    target.connector_data[f"sudo_askpass_path__{target.get_temp_dir_config()}"] = program
    target.host_data["_sudo_password"] = "(see control/ssh/privilege.py)"


def take_back(target: Target) -> None:
    """Ends what `hand_over` began, and waits until it has left nothing."""
    answering: Channel | None = target.connector_data.pop(ANSWERING, None)
    if answering:
        with suppress(OSError, EOFError):  # the connection was lost, and it with that
            answering.shutdown_write()
            answering.status_event.wait(TIMEOUT_S)
            answering.close()


def never_ask(prompt: str) -> str:
    raise SudoAsks("sudo takes no password that it was given: store the right one with `paddock secrets set sudo`")

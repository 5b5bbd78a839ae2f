"""Becoming root where sudo asks for a password.

pyinfra would hand the password to sudo in an environment variable on a command line, where every account of the host can read it. So the
program that answers sudo's question is made here, through standard input, and pyinfra is told that it is there already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from getpass import getpass
from typing import TYPE_CHECKING

from inventory.errors import PaddockError
from resources import UNOPENED

if TYPE_CHECKING:
    from pyinfra.api import Host as Target

ANSWER = r"""umask 077; at=$(mktemp "${XDG_RUNTIME_DIR:-$HOME}/.paddock-askpass.XXXXXXXX") &&
{ printf '#!/bin/sh\ncat <<"PADDOCK"\n'; cat; echo PADDOCK; } >"$at" && chmod 700 "$at" && echo "$at" """

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


def hand_over(target: Target, password: str) -> None:
    """Puts the answer where only the account reads it, until the connection ends. Raises PaddockError where that fails."""
    ok, output = target.run_shell_command(ANSWER, _stdin=password)
    if not ok:
        raise PaddockError(f"cannot hand sudo its password: {output.stderr}")
    directory = target.get_temp_dir_config()
    target.connector_data[f"sudo_askpass_path__{directory}"] = output.stdout_lines[0]
    target.host_data["_sudo_password"] = "(see control/ssh/privilege.py)"


def never_ask(prompt: str) -> str:
    raise SudoAsks("sudo takes no password that it was given: store the right one with `paddock secrets set sudo`")

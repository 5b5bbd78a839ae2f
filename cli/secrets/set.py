"""Set a secret, from the terminal or standard input.

examples:
  paddock secrets set hf-token
  paddock secrets set sudo < password
"""

from __future__ import annotations

import argparse
import getpass
import sys

from cli.secrets.names import lab_argument, name_argument, state_of
from control.state.secrets import Vault
from inventory.bounds import TYPED
from inventory.errors import UsageError
from roles.wording import UNSEEN, one_line


def arguments(command: argparse.ArgumentParser) -> None:
    name_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options))
    value = getpass.getpass(f"{one_line(options.name)}: ") if sys.stdin.isatty() else sys.stdin.read(TYPED.size).rstrip("\n")
    if not value:
        raise UsageError(f"{options.name}: the value is empty: nothing was stored")
    if UNSEEN.search(value) or set(value) & set("\n\t"):
        raise UsageError(f"{options.name}: the value has a line break or another invisible character in it: nothing was stored")
    vault.set(options.name, value)
    print(f"{options.name} is stored, encrypted", file=sys.stderr)
    return 0

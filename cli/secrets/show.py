"""Show a secret in plain text.

examples:
  paddock secrets show api-key.ai
"""

from __future__ import annotations

import argparse
import sys

from cli.secrets.names import lab_argument, name_argument, state_of
from control.state.secrets import Vault
from inventory.errors import UsageError
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    name_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options))
    value = vault.get(options.name)
    try:
        value.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as error:
        words = f"has a character that {sys.stdout.encoding} has not: set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        raise UsageError(f"{options.name}: {words}, so that it is shown as it is") from error
    print(one_line(value) if sys.stdout.isatty() else value)
    return 0

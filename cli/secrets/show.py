"""Show a secret in plain text.

examples:
  paddock secrets show api-key.ai
"""

from __future__ import annotations

import argparse
import sys

from cli.arguments import opened
from cli.secrets.names import lab_argument, name_argument
from control.state.secrets import Vault
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    name_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(opened(options).state)
    value = vault.get(options.name)
    print(one_line(value) if sys.stdout.isatty() else value)
    return 0

"""List the names of all secrets.

examples:
  paddock secrets list
"""

from __future__ import annotations

import argparse
import sys

from cli.arguments import opened
from cli.secrets.names import lab_argument
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(opened(options).state)
    print("".join(f"{name}\n" for name in vault.names()), end="")
    if not vault.names():
        print("no secrets yet: `paddock secrets set NAME` stores one, and `paddock up` makes those that it needs", file=sys.stderr)
    return 0

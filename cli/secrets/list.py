"""List the names of all secrets.

examples:
  paddock secrets list
"""

from __future__ import annotations

import argparse
import sys

from cli.arguments import of_lab, opened
from cli.secrets.names import lab_argument
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    vault = Vault(this.state)
    print("".join(f"{name}\n" for name in vault.names()), end="")
    if not vault.names() and (lab := of_lab(this)) and (there := Vault(lab).names()):
        print(f"no secrets, but in the lab there are {len(there)}: `paddock secrets list --lab`", file=sys.stderr)
    elif not vault.names():
        print("no secrets yet: `paddock secrets set NAME` stores one, and `paddock up` makes those that it needs", file=sys.stderr)
    return 0

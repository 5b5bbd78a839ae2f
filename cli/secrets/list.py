"""List the names of all secrets.

examples:
  paddock secrets list
"""

from __future__ import annotations

import argparse
import sys

from cli.secrets.names import lab_argument, state_of
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options))
    print("".join(f"{name}\n" for name in vault.names()), end="")
    if not vault.names() and (there := _of_lab(options)):
        print(f"no secrets, but in the lab there are {len(there)}: `paddock secrets list --lab`", file=sys.stderr)
    elif not vault.names():
        print("no secrets yet: `paddock secrets set NAME` stores one, and `paddock up` makes those that it needs", file=sys.stderr)
    return 0


def _of_lab(options: argparse.Namespace) -> tuple[str, ...]:
    return () if options.lab else tuple(Vault(state_of(argparse.Namespace(**{**vars(options), "lab": True}))).names())

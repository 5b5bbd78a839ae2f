"""List, show and set the fleet's secrets, and seal all anew.

examples:
  paddock secrets list
  paddock secrets set hf-token            asks for the value, or reads it from standard input
  paddock secrets show hf-token
  paddock secrets rotate                  seals everything anew, after a change in recipients.txt

They are sealed with age to all of `.paddock/<fleet>/recipients.txt`, and opened with PADDOCK_AGE_IDENTITY or
~/.config/paddock/identity.txt.
"""

from __future__ import annotations

import argparse
import getpass
import sys

from cli.opening import action_of, opened
from control.secrets import Vault
from inventory.errors import UsageError


def arguments(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="list|show|set|rotate", required=True)
    every = [
        action_of(actions, "list", "their names", "secrets list"),
        action_of(actions, "rotate", "seal all anew, to those that recipients.txt names now", "secrets rotate"),
        action_of(actions, "show", "one in plain text", "secrets show api-key.ai"),
        action_of(actions, "set", "a new value, from the terminal or standard input", "secrets set hf-token\nsecrets set sudo < password"),
    ]
    for action in every[2:]:
        action.add_argument("name").completer = _names  # type: ignore[attr-defined]
    for action in every:
        action.add_argument("--lab", action="store_true", help="those of the inventory's lab")


def _names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in Vault(opened(parsed_args).state).names() if name.startswith(prefix)]


def run(options: argparse.Namespace) -> int:
    vault = Vault(opened(options).state)
    if options.action == "list":
        print("".join(f"{name}\n" for name in vault.names()), end="")
        if not vault.names():
            print("there is none yet: `paddock secrets set NAME` keeps one, and `paddock up` makes those that it needs", file=sys.stderr)
    elif options.action == "rotate":
        print(f"{len(vault.reseal())} sealed anew to {len(vault.recipients())} recipient(s)")
    elif options.action == "show":
        print(vault.get(options.name))
    else:
        value = getpass.getpass(f"{options.name}: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
        if not value:
            raise UsageError(f"{options.name}: nothing was given, so nothing is kept")
        vault.set(options.name, value)
        print(f"{options.name} is kept, sealed", file=sys.stderr)
    return 0

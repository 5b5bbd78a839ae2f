"""Give a secret that Paddock has made another value, or encrypt all secrets again for the current recipients.txt.

examples:
  paddock secrets rotate                  encrypts all again; no value changes
  paddock secrets rotate api-key.ai       another value; `paddock up` lands it and restarts what uses it
  paddock secrets rotate api-key.ai --yes

Until `paddock up`, hosts go on with the value before. A secret that data are kept with, such as gateway-pepper, is not replaced.
"""

from __future__ import annotations

import argparse
import sys

from cli.arguments import opened, yes_argument
from cli.asking import confirmed
from cli.secrets.names import lab_argument, names, state_of
from control.state.api_keys import new_key, require_replaceable
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?").completer = names  # type: ignore[attr-defined]
    yes_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options))
    if options.name is None:
        print(f"{len(vault.reseal())} encrypted again for {len(vault.recipients.listed())} recipient(s)")
        return 0
    fleet = opened(argparse.Namespace(**{**vars(options), "lab": False})).fleet
    what = require_replaceable(fleet, options.name)
    if not confirmed(
        f"Make another value of {options.name}, {what}? `paddock up` then restarts what uses it.", options.yes, "`--yes` does it"
    ):
        print("nothing was changed", file=sys.stderr)
        return 1
    vault.set(options.name, new_key())
    lab = " --lab" if options.lab else ""
    print(f"{options.name} has another value: `paddock up{lab}` lands it and restarts what uses it, and nothing else", file=sys.stderr)
    return 0

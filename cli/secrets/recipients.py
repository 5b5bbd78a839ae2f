"""List who can decrypt, and accept new ones.

examples:
  paddock secrets recipients
  paddock secrets recipients --accept     accepts all that are listed, also where no terminal can ask
"""

from __future__ import annotations

import argparse

from cli.secrets.names import lab_argument, state_of
from control.state.recipients import Recipient
from control.state.secrets import Vault
from inventory.errors import PaddockError


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--accept", action="store_true", help="accept all keys in recipients.txt; look at the list first")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options), looks=not options.accept)
    recipients, listed = vault.recipients, vault.recipients.listed()
    if not listed:
        raise PaddockError(f"{recipients.file}: lists no recipients yet: `paddock up` or the first `paddock secrets set` writes it")
    if options.accept:
        recipients.remember(listed, vault.own)
    own, new = {Recipient.of(each).key for each in vault.own}, recipients.new(listed, vault.own)
    for each in listed:
        print(f"{'you' if each.key in own else 'NEW' if each in new else 'known':6} {each.words}")
    if new:
        print("\nNothing is encrypted while a recipient is new: `--accept` accepts all; take a line out that you do not know")
    return 0

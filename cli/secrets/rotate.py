"""Encrypt all secrets again for the current recipients.txt.

examples:
  paddock secrets rotate
"""

from __future__ import annotations

import argparse

from cli.secrets.names import lab_argument, state_of
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(state_of(options))
    print(f"{len(vault.reseal())} encrypted again for {len(vault.recipients.listed())} recipient(s)")
    return 0

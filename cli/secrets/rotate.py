"""Encrypt all secrets again for the current recipients.txt.

examples:
  paddock secrets rotate
"""

from __future__ import annotations

import argparse

from cli.arguments import opened
from cli.secrets.names import lab_argument
from control.state.secrets import Vault


def arguments(command: argparse.ArgumentParser) -> None:
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    vault = Vault(opened(options).state)
    print(f"{len(vault.reseal())} encrypted again for {len(vault.recipients.listed())} recipient(s)")
    return 0

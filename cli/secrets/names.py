"""Shared by the actions of `secrets`: their arguments, and names for tab completion."""

from __future__ import annotations

import argparse

from cli.arguments import opened
from control.state.secrets import Vault


def name_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("name").completer = _names  # type: ignore[attr-defined]


def lab_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lab", action="store_true", help="use the state of the inventory's lab")


def _names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in Vault(opened(parsed_args, only_read=True).state).names() if name.startswith(prefix)]

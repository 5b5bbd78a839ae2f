"""Shared by the actions of `secrets`: their arguments, and names for tab completion."""

from __future__ import annotations

import argparse

from cli.arguments import of_lab, opened
from control.state.fleet import FleetState
from control.state.secrets import Vault


def name_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("name").completer = names  # type: ignore[attr-defined]


def lab_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lab", action="store_true", help="use the state of the inventory's lab")


def state_of(options: argparse.Namespace, *, only_read: bool = False) -> FleetState:
    """With `--lab` that of the fleet's lab, of which no host has to run: a rehearsal makes its hosts itself."""
    this = opened(argparse.Namespace(**{**vars(options), "lab": False}), only_read=only_read)
    return (of_lab(this) if getattr(options, "lab", False) else None) or this.state


def names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in Vault(state_of(parsed_args, only_read=True)).names() if name.startswith(prefix)]

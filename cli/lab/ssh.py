"""Open a shell on a lab host, or run a command there.

examples:
  paddock lab ssh ai
  paddock lab ssh ai journalctl -u caddy
"""

from __future__ import annotations

import argparse

from cli.arguments import inventory_path
from inventory.load import load


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("host").completer = _hosts  # type: ignore[attr-defined]
    command.add_argument("command", nargs=argparse.REMAINDER, help="a command, as for ssh")


def _hosts(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).hosts if name.startswith(prefix)]


def run(options: argparse.Namespace) -> int:
    from lab import hosts

    return hosts.ssh(load(inventory_path(options)).name, options.host, options.command)

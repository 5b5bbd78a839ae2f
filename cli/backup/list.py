"""List the backups in the default directory.

examples:
  paddock backup list
  paddock backup list --json
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime

from cli.arguments import opened


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lab", action="store_true", help="those of the inventory's lab")
    command.add_argument("--json", action="store_true", help="print them as JSON")


def run(options: argparse.Namespace) -> int:
    this = opened(options, only_read=True)
    from control.lifecycle.backup import backups, directory_of

    found = [(path, path.stat()) for path in backups(this.state)]
    if options.json:
        print(json.dumps([{"file": str(path), "size": stat.st_size, "made": _at(stat.st_mtime)} for path, stat in found], indent=1))
        return 0
    for path, stat in found:
        print(f"{path}  {_at(stat.st_mtime)}  {stat.st_size:>14,} bytes")
    if not found:
        print(f"there are none in {directory_of(this.state)}: `paddock backup` makes one")
    return 0


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"

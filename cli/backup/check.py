"""Read a backup whole, and say what is in it. Changes nothing.

examples:
  paddock backup check .paddock/home.backups/20261130T155134Z.tar.age
  paddock backup check FILE --identity /mnt/usb/identity.txt

Exit codes: 0 each file is in it as its manifest says, 1 it is damaged, not whole, or sealed to others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cli.restore import backup_argument, vault_for
from cli.views.backups import described, lines_of


def arguments(command: argparse.ArgumentParser) -> None:
    backup_argument(command)
    command.add_argument("--json", action="store_true", help="print what is in it as JSON")


def run(options: argparse.Namespace) -> int:
    from control.lifecycle.restore import checked

    manifest = checked(vault_for(options), Path(options.file))
    if options.json:
        print(json.dumps(described(manifest), indent=1))
    else:
        print(*lines_of(manifest), "each file is as the manifest says", sep="\n")
    return 0

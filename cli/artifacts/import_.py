"""Add an artifact from a file.

examples:
  paddock artifacts import /media/stick/0.3.36-1f0c8a2b3c4d.paddock.tar
  paddock artifacts import --key 3f2a90c1… FILE       signed by another fleet: its key, as `export` printed it there
  paddock artifacts import --unsigned FILE            whoever has written it

Takes what this fleet's key has signed, and refuses what was changed since. `verify` and `list` say of anything else who vouches for it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cli.arguments import opened
from cli.artifacts.names import lab_argument
from control.llama_cpp.artifacts import Artifacts
from inventory.errors import UsageError
from roles.wording import shortened


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path)
    trust = command.add_mutually_exclusive_group()
    trust.add_argument("--key", default="", help="also take it if another fleet has signed it with this key: 64 hex digits")
    trust.add_argument("--unsigned", action="store_true", help="also take it if nobody vouches for it: its programs run on your hosts")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.served_releases import hosts_by_fingerprint

    this = opened(options)
    if options.key and not re.fullmatch("[0-9a-f]{64}", options.key.lower()):
        raise UsageError(f"--key {shortened(options.key)}: is no key, 64 hex digits, as `paddock artifacts export` prints it")
    artifact = Artifacts(this.state).take_in(options.file, key=options.key.lower(), unsigned=options.unsigned)
    print(f"{artifact.name}: {artifact.profile}; it runs with glibc {artifact.libc} or later", file=sys.stderr)
    if not hosts_by_fingerprint(this.fleet, this.state).get(artifact.fingerprint):
        print("no host of this inventory serves it, as far as their hardware is known", file=sys.stderr)
    return 0

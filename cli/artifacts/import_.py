"""Add an artifact from a file.

examples:
  paddock artifacts import /media/stick/0.3.36-1f0c8a2b3c4d.paddock.tar
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cli.arguments import opened
from cli.artifacts.names import lab_argument
from control.llama_cpp.artifacts import Artifacts


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.served_releases import hosts_by_fingerprint

    this = opened(options)
    artifact = Artifacts(this.state).take_in(options.file)
    print(f"{artifact.name}: {artifact.profile}; it runs with glibc {artifact.libc} or later", file=sys.stderr)
    if not hosts_by_fingerprint(this.fleet, this.state).get(artifact.fingerprint):
        print("no host of this inventory serves it, as far as their hardware is known", file=sys.stderr)
    return 0

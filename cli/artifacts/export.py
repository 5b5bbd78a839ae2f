"""Write an artifact to a file.

examples:
  paddock artifacts export 1f0c8a -o /media/stick/

It is signed with the fleet's key. Prints that key, which another fleet has to name: note it down, do not carry it on the same stick.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cli.arguments import opened
from cli.artifacts.names import artifact_names, lab_argument
from control.llama_cpp.artifacts import Artifacts

SUFFIX = ".paddock.tar"


def arguments(command: argparse.ArgumentParser) -> None:
    name = command.add_argument("name", help="the name in `list`, or the beginning of the fingerprint")
    name.completer = artifact_names  # type: ignore[attr-defined]
    command.add_argument("-o", "--output", type=Path, default=Path(), metavar="FILE|DIRECTORY", help="by default the current directory")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    artifacts = Artifacts(opened(options).state)
    artifact = artifacts.named(options.name)
    target = options.output / f"{artifact.name}{SUFFIX}" if options.output.is_dir() else options.output
    key = artifacts.export(artifact, target)
    print(target)
    print(f"signed by fleet {artifacts.state.fleet}: it imports it as it is, another fleet with --key {key}", file=sys.stderr)
    return 0

"""Remove the artifacts that no host serves and the images that no host is brought, or the named artifacts.

examples:
  paddock artifacts prune
  paddock artifacts prune 0.3.35-77aa01c2d3e4
"""

from __future__ import annotations

import argparse

from cli.arguments import opened
from cli.artifacts.names import artifact_names, lab_argument
from control.llama_cpp.artifacts import Artifacts


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="*").completer = artifact_names  # type: ignore[attr-defined]
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.brought_images import unused_archives
    from control.deployment.served_releases import prunable

    this = opened(options)
    for artifact, hosts in prunable(this.fleet, this.state, options.name):
        Artifacts(this.state).remove(artifact)
        print(f"{artifact.name} is gone" + (f": for {', '.join(hosts)} it would be built again" if hosts else ""))
    for archive in () if options.name else unused_archives(this.fleet, this.state):
        archive.unlink(missing_ok=True)
        print(f"{archive.name} is gone")
    return 0

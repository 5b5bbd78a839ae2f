"""Write the files that would land, without a host.

examples:
  paddock render                          lists what each host is to be
  paddock render --to /tmp/rendered       writes HOST/PATH for every file, and HOST/resources.txt
  paddock render --to /tmp/rendered --limit ai

Secrets are written as `<secret>`. What is not known yet stands there as `<to be issued>` or `to-be-detected`.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from cli.opening import limit_argument, opened
from control.context import context_for
from control.render import INDEX, tree, write


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--to", type=Path, metavar="DIRECTORY", help="where to write them")


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    rendered = tree(this.fleet, context_for(this.fleet, this.state, now=datetime.now(UTC)), frozenset(host.name for host in this.hosts))
    if options.to:
        write(rendered, options.to)
        print(f"{len(rendered)} files in {options.to}")
        return 0
    for path, content in rendered.items():
        if path.endswith(f"/{INDEX}"):
            print(f"{path.partition('/')[0]}:\n{content.decode()}")
    return 0

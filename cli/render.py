"""Write the files that `up` would install. Connects to no host.

examples:
  paddock render                          lists each host's resources
  paddock render --to /tmp/rendered       writes HOST/PATH for every file, and HOST/resources.txt
  paddock render --to /tmp/rendered --limit ai

Secrets are written as `<secret>`, values that are not known yet as `<to be issued>` or `to-be-detected`.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from cli.arguments import limit_argument, opened
from control.deployment.knowledge import knowledge_for
from control.deployment.plannable import require_plannable
from control.deployment.render import INDEX, tree, write
from inventory.errors import PaddockError


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--to", type=Path, metavar="DIRECTORY", help="the output directory")


def run(options: argparse.Namespace) -> int:
    this = opened(options, only_read=True)
    try:
        knowledge = knowledge_for(this.fleet, this.state, now=datetime.now(UTC))
        rendered = tree(this.fleet, knowledge, frozenset(host.name for host in this.hosts))
    except PaddockError:
        require_plannable(this.positions, this.fleet, deploys=())  # which says all of it, and where
        raise
    if options.to:
        write(rendered, options.to)
        print(f"{len(rendered)} files in {options.to}")
        return 0
    for path, content in rendered.items():
        if path.endswith(f"/{INDEX}"):
            print(f"{path.partition('/')[0]}:\n{content.decode()}")
    return 0

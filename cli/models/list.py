"""List every server's models with status, context and memory.

examples:
  paddock models list
  paddock models list --limit rig --json
"""

from __future__ import annotations

import argparse
import json

from cli.arguments import limit_argument, opened
from cli.servers import reached, server_argument, servers_meant
from cli.views.models import as_data, lines


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    servers = servers_meant(this, options.server)
    from control.servers import served

    with reached(this, servers) as reach:
        found = served.survey(reach, servers)
        if options.json:
            print(json.dumps([as_data(each) for each in found], indent=1))
        elif found:
            print(lines(found))
        return 1 if reach.failures else 0

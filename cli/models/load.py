"""Load a model and wait until it is ready.

examples:
  paddock models load qwen-35b
  paddock models load chat --server rig/chat-2
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cli.arguments import limit_argument
from cli.servers import model_argument, model_meant, on_each, server_argument
from cli.views.models import loaded
from roles.server import Server

if TYPE_CHECKING:
    from control.ssh.reach import Reach


def arguments(command: argparse.ArgumentParser) -> None:
    model_argument(command)
    server_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, servers, model = model_meant(options)
    from control.servers import served

    def load(reach: Reach, server: Server) -> None:
        found = served.load(reach, server, model, lambda status: print(f"{model}: {status}", flush=True))
        print(loaded(found), flush=True)

    return on_each(this, servers, load)

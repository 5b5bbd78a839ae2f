"""Unload a model.

examples:
  paddock models unload qwen-35b
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cli.arguments import limit_argument
from cli.servers import model_argument, model_meant, on_each, server_argument, told
from inventory.errors import PaddockError
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

    def unload(reach: Reach, server: Server) -> None:
        if server.kind == "instance":
            raise PaddockError(f"{told(server)}: an instance has its model for good: `paddock stop {told(server)}` frees its memory")
        was = served.unload(reach, server, model)
        print(f"{told(server)}: {model} {'is unloaded' if was else 'was not loaded'}", flush=True)

    return on_each(this, servers, unload)

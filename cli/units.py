"""Shared by `start`, `stop` and `restart`."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from cli.arguments import limit_argument, opened
from cli.asking import confirmed
from cli.servers import on_each, saying, server_names, servers_meant, told
from roles.server import Server

if TYPE_CHECKING:
    from control.ssh.reach import Reach


def arguments(command: argparse.ArgumentParser) -> None:
    servers = command.add_argument("server", nargs="*", metavar="SERVER", help="NAME, HOST/NAME, or HOST for all servers of a host")
    servers.completer = server_names  # type: ignore[attr-defined]
    limit_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")


def change(verb: str, done: str, options: argparse.Namespace) -> int:
    """Does it to the servers meant, and tells of each what it is now. Asks where none was named and there are several."""
    this = opened(options)
    servers = servers_meant(this, options.server)
    if not options.server and len(servers) > 1:
        otherwise = f"name them, or `paddock {verb} --yes` does it to all {len(servers)}"
        if not confirmed(f"{verb} all {len(servers)} llama-servers ({', '.join(map(told, servers))})?", options.yes, otherwise):
            print("nothing was done")
            return 1
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange
    from control.servers import served, units

    models = set[str]()

    def act(reach: Reach, server: Server) -> None:
        if verb == "restart" and models.intersection(server.models):
            time.sleep(served.NOTICED_S)
        models.update(server.models)
        record.adds(server.host, RecordedChange(verb, f"service:{server.unit}"))
        with record.failing(server.host):
            units.change(reach, verb, server)
            if verb != "stop":
                served.ready(reach, server, saying(server))
        print(f"{told(server)}: {done}", flush=True)

    with recording(this.state, verb, partial(print, file=sys.stderr)) as record:
        return on_each(this, servers, act)

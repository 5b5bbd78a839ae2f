"""What `start`, `stop` and `restart` have in common."""

from __future__ import annotations

import argparse

from cli.opening import confirmed, limit_argument, opened
from cli.servers import Tally, each_reached, reached, saying, server_names, servers_meant, told


def arguments(command: argparse.ArgumentParser) -> None:
    servers = command.add_argument("server", nargs="*", metavar="SERVER", help="NAME, HOST/NAME, or HOST for all of a host")
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
    from control import serving, units

    tally = Tally()
    with reached(this, servers) as reach:
        for each in each_reached(reach, servers):
            with tally.of():
                units.change(reach, verb, each)
                if verb != "stop":
                    serving.ready(reach, each, saying(each))
                print(f"{told(each)}: {done}", flush=True)
        return 1 if tally.failed or reach.failures else 0

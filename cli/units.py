"""Shared by `start`, `stop` and `restart`."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from cli.arguments import limit_argument, opened
from cli.asking import confirmed
from cli.servers import on_each, saying, told
from cli.services import Meant, services_argument, services_meant, told_all

if TYPE_CHECKING:
    from control.ssh.reach import Reach


def arguments(command: argparse.ArgumentParser) -> None:
    services_argument(command)
    limit_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")


def change(verb: str, done: str, options: argparse.Namespace) -> int:
    """Does it to what is meant, and tells of each what it is now. Asks where nothing was named and there is more than one."""
    from control.servers.host_stack import HostStack

    this = opened(options)
    meant = services_meant(this, options.server)
    if not options.server and len(meant) > 1:
        otherwise = f"name them, or `paddock {verb} --yes` does it to all {len(meant)}"
        kinds = "llama-servers and stacks" if any(isinstance(each, HostStack) for each in meant) else "llama-servers"
        if not confirmed(f"{verb} all {len(meant)} {kinds} ({told_all(meant)})?", options.yes, otherwise):
            print("nothing was done")
            return 1
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange
    from control.servers import served, stacks, units

    models = set[str]()

    def act(reach: Reach, each: Meant) -> None:
        if isinstance(each, HostStack):
            record.adds(each.host, RecordedChange(verb, each.stack.id))
            with record.failing(each.host):
                stacks.change(reach, verb, each)
        else:
            if verb == "restart" and models.intersection(each.models):
                time.sleep(served.NOTICED_S)
            models.update(each.models)
            record.adds(each.host, RecordedChange(verb, f"service:{each.unit}"))
            with record.failing(each.host):
                units.change(reach, verb, each)
                if verb != "stop":
                    served.ready(reach, each, saying(each))
        print(f"{told(each)}: {done}", flush=True)

    with recording(this.state, verb, partial(print, file=sys.stderr)) as record:
        return on_each(this, meant, act)

"""Show the logs of llama-servers and stacks; of several in the order of time.

examples:
  paddock logs                          the last lines of every server
  paddock logs -f ai                    follows, until Ctrl-C
  paddock logs ai/chat-1 --since "1 hour ago"
  paddock logs prod/web                 a stack
  paddock logs web/page                 a container of it

`--since` takes what journalctl takes: "10:30", "yesterday", "2 hours ago".
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime

from cli.arguments import limit_argument, opened
from cli.servers import each_reached, reached
from cli.services import services_argument, services_meant
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    services_argument(command)
    command.add_argument("--follow", "-f", action="store_true", help="follow the logs, until Ctrl-C")
    command.add_argument("--since", default="", metavar="TIME", help="show all lines since then")
    command.add_argument(
        "--lines", "-n", type=int, default=50, metavar="N", help="without --since: the last N lines of each host and container (50)"
    )
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    from control.servers.host_stack import HostStack

    meant = services_meant(this, options.server)
    from control.servers.stacks import logs
    from control.servers.units import journal
    from control.ssh.reach import as_they_come, on_interrupt

    several = sum(each.many if isinstance(each, HostStack) else 1 for each in meant) > 1
    how = {"since": options.since, "count": max(options.lines, 0), "follow": options.follow}
    with reached(this, meant) as reach:
        there = tuple(each_reached(reach, meant))
        servers = [each for each in there if not isinstance(each, HostStack)]
        hosts = dict.fromkeys(each.host for each in servers)
        streams = [journal(reach, [each for each in servers if each.host == host], **how) for host in hosts]
        streams += [logs(reach, each, **how) for each in there if isinstance(each, HostStack)]
        failed: list[str] = []

        def tell(why: str) -> None:
            failed.append(why)
            print(why, file=sys.stderr)

        with on_interrupt(reach.hang_up):
            lines = as_they_come(streams, tell)
            for line in lines if options.follow else sorted(lines, key=lambda line: line.at):
                name = f"{line.server}  " if several else ""
                print(f"{datetime.fromtimestamp(line.at / 1e6):%Y-%m-%d %H:%M:%S}  {name}{one_line(line.text)}", flush=options.follow)
        return 1 if failed or reach.failures else 0

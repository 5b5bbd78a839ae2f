"""Show what each run has changed: when, by whom, on which hosts, and how that ended.

examples:
  paddock history                        the last 20 runs that changed something
  paddock history --limit ai -n 5        the last five that changed one host
  paddock history show 42                all that one run did
  paddock history show --diff            what the last run changed in files, options and releases

`up`, `teardown` and every other verb that changes hosts leave a record. The records lie in `.paddock/<fleet>/history/`.
"""

from __future__ import annotations

import argparse
import json
import sys

from cli.arguments import limit_argument, limit_of, opened
from cli.history.record import tell
from cli.views.history import as_data, listed
from control.lifecycle.history import History
from control.lifecycle.records import Record

ACTIONS = ("show",)

LISTED = 20


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("-n", type=_count, default=LISTED, metavar="N", dest="count", help=f"so many runs ({LISTED}); 0 lists all")
    command.add_argument("--json", action="store_true", help="print JSON")
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, damaged = opened(options, only_read=True), list[str]()
    hosts = {host.name for host in this.hosts} if limit_of(options, this.fleet, this.path) else None
    found: list[Record] = []
    for record in History(this.state).newest(damaged.append):
        if hosts is None or hosts & record.hosts.keys():
            found.append(record)
        if len(found) == options.count:
            break
    if options.json:
        print(json.dumps([as_data(each) for each in found], indent=1))
    elif found:
        print(listed(found))
    elif not damaged:
        print("no run has changed anything yet" if hosts is None else "no run has changed these hosts", file=sys.stderr)
    for each in damaged:
        tell(each)
    return 1 if damaged else 0


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)

"""Write one sealed file of what the fleet cannot do without: its state, its inventory, its gateways' databases.

examples:
  paddock backup                        to .paddock/home.backups/, where the newest 7 are kept
  paddock backup --to /mnt/usb          a directory or a file of your own; nothing is deleted there
  paddock backup --state-only           without the databases; connects to no host
  paddock backup check FILE             reads a backup whole
  paddock -i home.yml restore FILE      on this or another control machine

Each database is restored into a scratch database on its host, and its rows are counted, before the copy counts. Keep your age identity
elsewhere: without it nobody opens the file. Exit codes: 0 done, 1 failed, or a database is not in the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cli.arguments import limit_argument, opened
from cli.views.backups import described
from cli.views.progress import Progress

ACTIONS = ("list", "check")

KEEP = 7


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--to", type=Path, metavar="FILE|DIRECTORY", help="write there instead").completer = None  # type: ignore[attr-defined]
    command.add_argument("--state-only", action="store_true", help="leave the gateways' databases out")
    command.add_argument("--with-artifacts", action="store_true", help="the archives of built releases too: large, and hosts have them")
    command.add_argument("--keep", type=_count, default=KEEP, metavar="N", help=f"so many stay in the default directory ({KEEP})")
    command.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(options: argparse.Namespace) -> int:
    this, progress = opened(options), Progress(to_stderr=options.json)
    from control.lifecycle.backup import back_up, prune, target_of
    from control.state.lock import operator_lock

    with operator_lock(this.state, "backup"):
        target = target_of(this.state, options.to)
        hosts = [] if options.state_only else [host.name for host in this.hosts if host.name in this.fleet.gateways]
        if hosts:
            from cli.servers import hosts_reached
            from control.lifecycle.databases import HostDatabase

            with hosts_reached(this, hosts) as reach:
                databases = {host: HostDatabase(reach, host) for host in hosts if host not in reach.failures}
                made = back_up(this.state, target, databases, artifacts=options.with_artifacts, tell=progress.line)
                missing = {**reach.failures, **made.failed}
        else:
            made = back_up(this.state, target, {}, artifacts=options.with_artifacts, tell=progress.line)
            missing = {}
        gone = prune(this.state, options.keep) if options.to is None else ()
    for why in made.failed.values():
        progress.error(why)
    for host in missing:
        progress.error(f"{host}: its database is not in the backup")
    if options.json:
        print(json.dumps({"file": str(made.file), "size": made.size, "missing": missing, **described(made.manifest)}, indent=1))
    else:
        progress.line(f"{made.file}: {made.size:,} bytes, sealed" + (f"; {len(gone)} older deleted" if gone else ""))
    return 1 if missing else 0


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)

"""Show what one run did on each host; with --diff, how it differs there from the run before it; with --evidence, why it was taken back.

examples:
  paddock history show                   the last run
  paddock history show 42
  paddock history show 42 --diff         unified diffs of files; what a secret is, is not shown
  paddock history show 42 --diff --limit ai --json
  paddock history show 42 --evidence     of a release that was refused or taken back: what was measured, what servers have written
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from cli.arguments import limit_argument, limit_of, opened
from cli.history.record import number_argument, number_meant, tell
from cli.views.history import Collected, as_data, shown
from control.lifecycle.differences import Difference, differences, new
from control.lifecycle.history import History
from control.lifecycle.records import Record
from control.state.evidence import kept, place
from control.state.fleet import FleetState
from inventory.errors import PaddockError


def arguments(command: argparse.ArgumentParser) -> None:
    number_argument(command)
    command.add_argument("--diff", action="store_true", help="compare each host's plan with the one in the record before")
    command.add_argument("--evidence", action="store_true", help="show what was kept of why hosts did not keep a release")
    command.add_argument("--json", action="store_true", help="print JSON")
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options, only_read=True)
    history = History(this.state)
    record = history.record(number_meant(options.number, history))
    if limit_of(options, this.fleet, this.path):
        limited = {host.name for host in this.hosts}
        record = replace(record, hosts={name: host for name, host in record.hosts.items() if name in limited})
    compared = _compared(history, record) if options.diff else None
    collected = _collected(this.state, record) if options.evidence else None
    print(json.dumps(as_data(record, compared, collected), indent=1) if options.json else shown(record, compared, collected))
    return 0


def _collected(state: FleetState, record: Record) -> dict[str, Collected]:
    """Host → what is kept of it, of those that the record says have some."""
    named = {name: host.evidence for name, host in record.hosts.items() if host.evidence}
    if not named:
        tell(f"run {record.number}: there is no evidence: no release was refused or taken back there")
    return {name: (place(state, name, id), kept(state, name, id)) for name, id in named.items()}


def _compared(history: History, record: Record) -> dict[str, tuple[int | None, tuple[Difference, ...]]]:
    """Host → the number of the record that it is compared with, None where there is none, and the differences. Not of hosts of which no
    whole plan is kept."""
    whole = [name for name, host in record.hosts.items() if host.plan]
    plans, earlier = history.plans(record.number), history.earlier(record.number, whole, tell)
    if lacking := [name for name in whole if name not in plans]:
        raise PaddockError(f"run {record.number}: the plans of {', '.join(lacking)} are kept no more: `--diff` has nothing to compare")
    found: dict[str, tuple[int | None, tuple[Difference, ...]]] = {}
    for number in dict.fromkeys(each.number for each in earlier.values()):
        before = history.plans(number)
        for name in (name for name, each in earlier.items() if each.number == number and name in before):
            found[name] = (number, differences(before[name], plans[name], record.hosts[name].changes))
    return {name: found.get(name, (None, new(plans[name]))) for name in whole}

"""Give hosts back the release and the configuration that they had before, out of their own history.

examples:
  paddock rollback ai            shows the changes, asks, applies and verifies them
  paddock rollback ai            once more: forward again, to what it had before the first
  paddock rollback ai --list     what the host has had, and what of it is still possible
  paddock rollback ai --to 3     an older entry
  paddock rollback --yes         every host that had something before

Nothing is built and nothing is fetched: the release lies on the host. Certificates, keys, allow-lists and firewall rules stay as the
inventory says today. The inventory is not changed: the next `paddock up` brings back what it says.
Exit codes: 0 every host has what it had before and answers, 1 not.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from cli.arguments import Opened, limit_argument, opened, steal_lock_argument, yes_argument
from cli.asking import ask_at_terminal, confirmed
from cli.views.changes import lines
from cli.views.progress import Progress
from cli.views.report import summary
from cli.views.rollback import entries_of
from control.deployment.report import has_failed, report
from inventory.errors import UsageError

if TYPE_CHECKING:
    from control.deployment.deployment import Deployment
    from control.lifecycle.rollback import Rollback


def arguments(command: argparse.ArgumentParser) -> None:
    named = command.add_argument("host", nargs="*", metavar="HOST", help="hosts, groups or roles, as for --limit")
    limit_argument(command)
    named.completer = next(each for each in command._actions if each.dest == "limit").completer  # type: ignore[attr-defined]
    command.add_argument("--to", type=int, metavar="N", help="an entry of the host's history; by default what it had before")
    command.add_argument("--list", action="store_true", help="show the history of each host, and change nothing")
    yes_argument(command)
    steal_lock_argument(command)
    command.add_argument("--json", action="store_true", help="print the report, or the list, as JSON; progress goes to standard error")


def run(options: argparse.Namespace) -> int:
    options.limit += options.host
    this = opened(options)
    if options.to is not None and options.to < 1:
        raise UsageError(f"--to {options.to}: entries are numbered from 1: `paddock rollback --list` shows them")
    return _list(this, as_json=options.json) if options.list else _roll_back(this, options)


def _list(this: Opened, *, as_json: bool) -> int:
    from control.deployment.deployment import Deployment
    from control.lifecycle.rollback import as_data, kept_there

    deployment, progress = Deployment(this.fleet, this.state, this.hosts, looks=True), Progress(to_stderr=as_json)
    with deployment.connected():
        deployment.survey()
        found = kept_there(deployment)
    if as_json:
        print(json.dumps({"hosts": as_data(found), "failed": dict(deployment.failures)}, indent=1))
    else:
        for name, each in found.items():
            print(*entries_of(name, each), sep="\n")
    progress.failures(deployment.failures)
    return 1 if deployment.failures else 0


def _roll_back(this: Opened, options: argparse.Namespace) -> int:
    from control.deployment.deployment import Deployment
    from control.lifecycle.recording import recording
    from control.lifecycle.rollback import prepare
    from control.state.lock import operator_lock

    began, progress = time.monotonic(), Progress(to_stderr=options.json)
    with (
        recording(this.state, "rollback", progress.error) as record,
        operator_lock(this.state, "rollback", steals=options.steal_lock) as holder,
    ):
        deployment = Deployment(
            this.fleet, this.state, this.hosts, progress.of, ask_at_terminal, changing=record.opens, holder=holder, verb="rollback"
        )
        with deployment.connected():
            found = prepare(deployment, options.to)
            for name, why in found.left.items():
                progress.error(f"{name}: stays as it is: {why}")
            changes = _show(deployment, found, progress)
            if not changes:
                progress.error("nothing was changed")
                return 1 if deployment.failures or not found.entries else 0
            if not confirmed("Roll back?", options.yes, "`paddock rollback --list` shows what there is, `paddock rollback --yes` does it"):
                progress.error("nothing was changed")
                return 1
            deployment.converge()
            progress.failures(deployment.failures)
        failed = _verify(this, deployment, found, progress)
        done = report(deployment, changes, failed, skipped=False)
        record.verified = {name: each["verified"] for name, each in done["hosts"].items()}
    print(json.dumps(done, indent=1) if options.json else summary(done, time.monotonic() - began))
    return 1 if has_failed(done) or deployment.failures or (found.left and options.limit) else 0


def _show(deployment: Deployment, found: Rollback, progress: Progress) -> dict[str, int]:
    """Shows what is to change, and gives host → how much."""
    changes, told = {}, set[str]()
    for issued in deployment.due() if any(work.drift for work in deployment.work.values()) else ():
        progress.line(f"  ~ {issued}")
    for name, work in deployment.work.items():
        line = found.entries[name].line
        if not work.drift:
            progress.line(f"{name}: is as entry {line.number} has it: another one with --to, `paddock rollback --list` shows them")
            continue
        changes[name] = max(1, len(work.shown))
        progress.line(f"{name}: back to {line.release}, entry {line.number} of {line.at:%Y-%m-%d %H:%M UTC}: {changes[name]} to change")
        for each in lines(work, told):
            progress.line(each)
    progress.failures(deployment.failures)
    return changes


def _verify(this: Opened, deployment: Deployment, found: Rollback, progress: Progress) -> dict[str, int]:
    """Host → how many of its checks failed; each host against what it had, with what is today's."""
    from control.deployment.verification import verify

    failed: dict[str, int] = {}
    for name, work in deployment.work.items():
        if name not in deployment.failures and work.plan:
            progress.line(f"verifying {name}")
            failed |= verify(found.fleets[name], this.state, {name: work.plan}, progress.line, progress.error)
    return failed

"""Apply the inventory to the hosts and verify them.

examples:
  paddock up                     shows the changes, asks, applies them
  paddock up --yes               does not ask, for scripts
  paddock up --deep              also reads models and releases whole, and puts back what has changed without a trace
  paddock up --limit ai          only one host, group or role
  paddock up --lab --yes         on the inventory's lab hosts
  paddock up --take-over         also hosts of another fleet, or of another state of this one; shows first what would go
  paddock up --steal-lock        also hosts that a run on another machine began to change, and that run is dead

If a run is killed, run `up` again: it completes the work. Exit codes: 0 every host is as declared and answers, 1 not.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Literal

from cli.arguments import Opened, deep_argument, limit_argument, opened, steal_lock_argument, take_over_argument
from cli.asking import ask_at_terminal, confirmed
from cli.views.changes import lines
from cli.views.chat_line import chat_line
from cli.views.fit import together
from cli.views.progress import Progress
from cli.views.report import summary
from cli.views.switches import switches
from control.deployment.condition import conditions, reboots
from control.deployment.report import has_failed, report

if TYPE_CHECKING:
    from control.deployment.deployment import Deployment


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    deep_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")
    take_over_argument(command)
    steal_lock_argument(command)
    command.add_argument("--accept-host-keys", action="store_true", help="pin the keys of new hosts without asking")
    command.add_argument("--no-verify", action="store_true", help="skip the checks at the end")
    command.add_argument("--json", action="store_true", help="print the report as JSON; progress goes to standard error")


def run(options: argparse.Namespace) -> int:
    return bring_up(
        opened(options),
        yes=options.yes,
        accept_host_keys=options.accept_host_keys,
        verified="never" if options.no_verify else "where changed",
        as_json=options.json,
        deep=options.deep,
        take_over=options.take_over,
        steal_lock=options.steal_lock,
    )


def bring_up(
    this: Opened,
    *,
    verb: str = "up",
    yes: bool,
    accept_host_keys: bool = False,
    verified: Literal["where changed", "always", "never"] = "where changed",
    as_json: bool = False,
    chat: bool = True,
    deep: bool = False,
    take_over: bool = False,
    steal_lock: bool = False,
) -> int:
    """All of `up`, for its exit code. `verified` says when the checks at its end are made; without `chat` no words on how to. `verb`
    is what the lock and the history call it."""
    from control.deployment.deployment import Deployment
    from control.deployment.known_options import require_known_options
    from control.deployment.plannable import require_plannable
    from control.lifecycle.recording import recording
    from control.state.lock import operator_lock

    began, progress, due = time.monotonic(), Progress(to_stderr=as_json), list[str]()
    ask = _always if accept_host_keys else ask_at_terminal
    require_plannable(this.positions, this.fleet, deploys=this.hosts)
    require_known_options(this.positions, this.fleet)
    with recording(this.state, verb, progress.error) as record, operator_lock(this.state, verb, steals=steal_lock) as holder:
        deployment = Deployment(
            *(this.fleet, this.state, this.hosts, progress.of, ask),
            deep=deep,
            takes_over=take_over,
            changing=record.opens,
            holder=holder,
        )
        with deployment.connected():
            deployment.survey(fit=True)
            changes = _show(deployment, progress)
            if changes or (deployment.work and deployment.due()):
                if not confirmed("Make it so?", yes, "`paddock plan` shows what would change, `paddock up --yes` does it"):
                    progress.error("nothing was changed")
                    return 1
                deployment.converge()
                changes = _changes(deployment)
                due = list(reboots(conditions(deployment)))
                progress.failures(deployment.failures)
        wanted = verified == "always" or (verified == "where changed" and changes)
        failed = _verify(this, deployment, progress) if wanted else {}
        done = report(deployment, changes, failed, skipped=verified == "never")
        record.verified = {name: each["verified"] for name, each in done["hosts"].items()}
    for line in due:
        progress.line(line)
    if as_json:
        print(json.dumps(done, indent=1))
    else:
        print(summary(done, time.monotonic() - began))
        if chat and not deployment.failures:
            for entrance, server, certificates in deployment.how_to_chat():
                print(chat_line(entrance, server, certificates, this.fleet, this.named, lab=this.lab))
    return 1 if has_failed(done) else 0


def _always(question: str) -> bool:
    return True


def _changes(deployment: Deployment) -> dict[str, int]:
    """Host → how much is to change there, of those where anything is."""
    return {name: max(1, len(work.shown)) for name, work in deployment.work.items() if work.drift}


def _show(deployment: Deployment, progress: Progress) -> dict[str, int]:
    """Shows what is to change, and gives host → how much."""
    from control.deployment.otherwise import taken_back

    changes, told = _changes(deployment), set[str]()
    for issued in deployment.due() if deployment.work else ():
        progress.line(f"  ~ {issued}")
    for notice in together(deployment.notices()):
        progress.line(f"  {notice}")
    for name, work in deployment.work.items():
        for line in switches(work.actual):
            progress.line(f"{name}:{line}")
    for name, number in changes.items():
        if name in deployment.strangers:
            progress.line(f"{name}: {deployment.strangers[name]}: it is taken over")
        if said := taken_back(deployment.work[name].plan, deployment.work[name].actual.history, deployment.fleet.name):
            progress.line(f"{name}: {said}")
        progress.line(f"{name}: {number} to change")
        for line in lines(deployment.work[name], told):
            progress.line(line)
    progress.failures(deployment.failures)
    return changes


def _verify(this: Opened, deployment: Deployment, progress: Progress) -> dict[str, int]:
    """Host → how many of its checks failed."""
    from control.deployment.verification import verify

    hosts = {name: work.plan for name, work in deployment.work.items() if name not in deployment.failures}
    progress.line(f"verifying {', '.join(hosts)}" if hosts else "no host is left to verify")
    return verify(this.fleet, this.state, hosts, progress.line, progress.error)

"""Make the hosts as the inventory says, and prove it.

examples:
  paddock up                     shows the plan, asks, then does it
  paddock up --yes               without asking, for scripts
  paddock up --limit ai          only one host, group or role
  paddock up --lab --yes         on the inventory's lab hosts

A run that dies, at any moment, is made whole by the next. Exit code 0 where every host is as declared and answers, 1 where not.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, Literal

from cli.opening import Opened, ask_at_terminal, confirmed, limit_argument, opened, require_known_options
from cli.showing import lines, shown, table
from cli.telling import Telling
from control.condition import conditions, reboots

if TYPE_CHECKING:
    from control.deployment import Deployment


def arguments(command: argparse.ArgumentParser) -> None:
    limit_argument(command)
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")
    command.add_argument("--accept-host-keys", action="store_true", help="pin the keys of hosts met for the first time without asking")
    command.add_argument("--no-verify", action="store_true", help="leave out the checks at the end")
    command.add_argument("--json", action="store_true", help="the report, for programs; what happens goes to standard error")


def run(options: argparse.Namespace) -> int:
    return bring_up(
        opened(options),
        yes=options.yes,
        accept_host_keys=options.accept_host_keys,
        verified="never" if options.no_verify else "where changed",
        as_json=options.json,
    )


def bring_up(
    this: Opened,
    *,
    yes: bool,
    accept_host_keys: bool = False,
    verified: Literal["where changed", "always", "never"] = "where changed",
    as_json: bool = False,
    chat: bool = True,
) -> int:
    """All of `up`, for its exit code. `verified` says when the checks at its end are made; without `chat` no words on how to."""
    from control.deployment import Deployment
    from control.lock import operator_lock

    began, telling, due = time.monotonic(), Telling(to_stderr=as_json), list[str]()
    ask = _always if accept_host_keys else ask_at_terminal
    require_known_options(this)
    with operator_lock(this.state, "up"):
        deployment = Deployment(this.fleet, this.state, this.hosts, telling.of, ask)
        with deployment.connected():
            deployment.survey(fit=True)
            changes = _show(deployment, telling)
            if changes or deployment.due():
                if not confirmed("Make it so?", yes, "`paddock plan` shows what would change, `paddock up --yes` does it"):
                    telling.error("nothing was changed")
                    return 1
                deployment.converge()
                changes = _changes(deployment)
                due = list(reboots(conditions(deployment)))
                telling.failures(deployment.failures)
        wanted = verified == "always" or (verified == "where changed" and changes)
        failed = _verify(this, deployment, telling) if wanted else {}
    for line in due:
        telling.line(line)
    report = _report(deployment, changes, failed, skipped=verified == "never")
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        _summary(report, time.monotonic() - began)
        if chat and not deployment.failures:
            _how_to_chat(this, deployment)
    this.state.write_report(report)
    return 1 if any(each["failed"] or each["verified"] == "FAILED" for each in report["hosts"].values()) else 0


def _always(question: str) -> bool:
    return True


def _changes(deployment: Deployment) -> dict[str, int]:
    """Host → how much is to change there, of those where anything is."""
    return {name: max(1, len(shown(work))) for name, work in deployment.work.items() if work.drift}


def _show(deployment: Deployment, telling: Telling) -> dict[str, int]:
    """Shows what is to change, and gives host → how much."""
    changes, told = _changes(deployment), set[str]()
    for issued in deployment.due():
        telling.line(f"  ~ {issued}")
    for notice in deployment.notices():
        telling.line(f"  {notice}")
    for name, number in changes.items():
        telling.line(f"{name}: {number} to change")
        for line in lines(deployment.work[name], told):
            telling.line(line)
    telling.failures(deployment.failures)
    return changes


def _verify(this: Opened, deployment: Deployment, telling: Telling) -> dict[str, int]:
    """Host → how many of its checks failed."""
    from control.verification import verify

    hosts = [name for name in deployment.work if name not in deployment.failures]
    telling.line(f"verifying {', '.join(hosts)}" if hosts else "no host is left to verify")
    return verify(this.fleet, this.state, hosts, telling.line, telling.error)


def _report(deployment: Deployment, changes: dict[str, int], verified: dict[str, int], *, skipped: bool) -> dict[str, Any]:
    hosts = {}
    for host in deployment.hosts:
        name = host.name
        hosts[name] = {
            "changed": changes.get(name, 0),
            "seconds": round(deployment.run.seconds.get(name, 0.0), 1),
            "release": deployment.release(name),
            "verified": _how_verified(name, deployment, changes, verified),
            "failed": deployment.failures.get(name),
        }
    return {"fleet": deployment.fleet.name, "hosts": hosts, "verification_skipped": skipped}


def _how_verified(name: str, deployment: Deployment, changes: dict[str, int], verified: dict[str, int]) -> str:
    if name in verified:
        return "FAILED" if verified[name] else "yes"
    return "by the probe" if name in deployment.work and not changes.get(name) else "no"


def _summary(report: dict[str, Any], seconds: float) -> None:
    rows = [("host", "changed", "duration", "release", "verified")]
    for name, each in report["hosts"].items():
        changed = "FAILED" if each["failed"] else f"{each['changed']} changed"
        rows.append((name, changed, f"{each['seconds']:.1f} s", each["release"] or "-", each["verified"]))
    print("\n" + table(rows) + f"\n{seconds:.1f} s in all")


def _how_to_chat(this: Opened, deployment: Deployment) -> None:
    for line in deployment.how_to_chat():
        print(line)

"""Why a host has another configuration than the inventory's, by what it has noted itself: it was rolled back, or its release is another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from control.deployment import replay
from control.ssh.run import Run
from resources.history import READ, HostHistory, history_of
from roles.host_plan import HostPlan

WHEN = "%Y-%m-%d %H:%M UTC"


def otherwise(plan: HostPlan, history: HostHistory, fleet: str) -> str:
    """Since which run of the fleet's a host differs so from its plan, and what the next `up` does, in words; empty where it does not."""
    own = history.of(fleet)
    newest, says = own.newest, replay.release_of(plan)
    if not newest or newest.state != "done" or newest.release == says or newest.verb == "rollback":
        return taken_back(plan, history, fleet)
    done = [each for each in reversed(own.lines) if each.state == "done"]
    *_, since = takewhile(lambda each: each.release == newest.release, done)
    what = "the inventory says none" if says == "-" else f"the inventory says {says}"
    return (
        f"has {newest.release if newest.release != '-' else 'no release'} since {since.at:{WHEN}} (entry {since.number}, {since.verb} by "
        f"{since.who}); {what}: the next `paddock up` brings that"
    )


def taken_back(plan: HostPlan, history: HostHistory, fleet: str) -> str:
    """Of a host that was rolled back and differs from its plan since: that, in words; empty of any other."""
    newest = history.of(fleet).newest
    if not newest or (newest.verb, newest.state) != ("rollback", "done") or replay.digest_of(plan) == newest.digest:
        return ""
    says = replay.release_of(plan)
    what = f"the inventory says {says}" if says != newest.release else "the inventory says something else"
    return (
        f"rolled back to {newest.release} (entry {newest.number}) on {newest.at:{WHEN}} by {newest.who}; {what}: "
        "the next `paddock up` brings that back, unless you change the inventory"
    )


def otherwise_there(run: Run, plans: Mapping[str, HostPlan], fleet: str) -> dict[str, str]:
    """Host → what `otherwise` says, of those of which it says something: each that is connected is asked for its history."""
    histories = run.said(dict.fromkeys(plans, READ)) if plans else {}
    words = {name: otherwise(plans[name], history_of(lines, ()), fleet) for name, lines in histories.items()}
    return {name: each for name, each in words.items() if each}

"""Whose a host is, by its manifest: this state's, nobody's, or another's, which a run leaves alone unless it is to take the host over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from control.deployment.work import Work
from control.state.lineage import Lineage
from resources.owner import UNREADABLE, Owner

NAMED = 3
"""So many resources are named of all that would change."""

WHEN = "%Y-%m-%d %H:%M:%S UTC"


def stranger(found: Owner | None, fleet: str, lineage: Lineage | None) -> str:
    """Whose the host is, in words; empty where it is this state's, or nobody's."""
    if found is None:
        return ""
    if found == UNREADABLE:
        return "its manifest says whose it is in words that this version of Paddock cannot read"
    if found.fleet != fleet:
        return f"belongs to fleet {found.fleet}, not to fleet {fleet}"
    if lineage is None or found.id != lineage.id:
        return f"belongs to another state of fleet {fleet}: the one here was lost, or made anew"
    if not lineage.has_told(found.changed):
        newer = "a newer" if found.changed > lineage.changed else "another"
        return f"was last changed with {newer} copy of the state: of {found.changed:{WHEN}}, the one here is of {lineage.changed:{WHEN}}"
    return ""


def refusal(host: str, whose: str, work: Work, fleet: str, state: Path, lacks: Sequence[str] = ()) -> str:
    """Why nothing was changed on a stranger's host, what taking it over would do there, and what to do instead. `lacks` is what the host
    knows of revocations and the state does not."""
    of_this_fleet = work.actual.owner is not None and work.actual.owner.fleet == fleet
    restore = (
        f"Put the newest state back into {state}, from a backup or from git (`paddock state adopt` where it is lost)"
        if of_this_fleet
        else "Leave it to its owner"
    )
    missing = f" The state here lacks: {_first(lacks)}." if lacks else ""
    verb = "up" if work.plan else "teardown"
    shown = f"`paddock plan --limit {host}` shows all of it, " if work.plan else ""
    words = f"or take it over, which {_effect(work)}: {shown}`paddock {verb} --limit {host} --take-over` does it"
    return f"{whose}. Nothing was changed there.{missing} {restore}, {words}"


def _effect(work: Work) -> str:
    """`replaces 2 resources (file:/etc/motd, package:caddy) and removes 1 (file:/etc/caddy/paddock/ca.pem)`"""
    replaced = [each.id for each in work.shown if each.sign == "~"]
    removed = [each.id for each in work.shown if each.sign == "-"]
    parts = [f"{verb} {_some(names)}" for verb, names in (("replaces", replaced), ("removes", removed)) if names]
    return " and ".join(parts) or "replaces nothing but its manifest"


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} resource{'' if len(names) == 1 else 's'} ({_first(names)})"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")

"""What a run has not put right, in words."""

from __future__ import annotations

from control.deployment.work import Work
from resources.drift import Change


def remains(work: Work, *, guarded: bool) -> bool:
    """Whether a host is not as it was to be. One that could still take it back keeps what is old until it is confirmed."""
    return any(_remaining(each) for each in work.drift.changes) if guarded else bool(work.drift)


def _remaining(change: Change) -> set[str]:
    return change.attributes.keys() - (change.resource.old if change.resource else frozenset[str]())


def still(work: Work) -> str:
    """What differs, in one line: `service:caddy.service active is failed, not active`."""
    words = [_differing(change) for change in work.drift.changes if change.attributes or change.action == "remove"]
    return "; ".join(words[:5]) + (f"; and {len(words) - 5} more" if len(words) > 5 else "") or "the manifest was changed meanwhile"


def _differing(change: Change) -> str:
    words = ", ".join(
        "its content" if name == "sha256" else f"{name} is {actual or 'missing'}, not {desired}"
        for name, (actual, desired) in change.attributes.items()
    )
    advice = change.resource.advice(change.attributes) if change.resource and change.sign == "~" else ""
    return f"{change.id} {words}" + (f" ({advice})" if advice else "")

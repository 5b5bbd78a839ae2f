"""What there is to do on a host when pyinfra was started by itself: `pyinfra inventory/hosts.py deploys/site.py`.

It converges what can be converged from what is known: the lock, issuing, builds, the question and the verification are `paddock up`'s.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pyinfra.api import Host
from pyinfra.api.exceptions import PyinfraError

from control.context import context_for
from control.state import FleetState
from control.work import Work
from facts.drift import drift
from facts.state import State, probe_script
from inventory.context import TO_BE_ISSUED
from inventory.load import load
from roles.host_plan import host_plan, needs_of
from roles.resources import File


def work_for(target: Host) -> Work:
    path = Path(target.data.paddock_inventory)
    fleet = load(path)
    this, context = fleet.hosts[target.name], context_for(fleet, FleetState.of(path, fleet.name), now=datetime.now(UTC))
    if target.name not in context.hardware:
        raise PyinfraError(f"{target.name}: nothing is known of this machine yet: `paddock up` looks at it, once")
    plan = host_plan(this, fleet, context)
    if due := [each.path for part in plan.values() for each in part if isinstance(each, File) and each.content == TO_BE_ISSUED]:
        raise PyinfraError(f"{target.name}: {', '.join(due)}: to be issued, which `paddock up` does")
    asked = tuple(each for part in plan.values() for each in part)
    actual = target.get_fact(State, resources=asked, _stdin=probe_script(asked))
    return Work(plan, actual, drift(plan, actual), needs_of(this, fleet))

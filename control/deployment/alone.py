"""What there is to do on a host when pyinfra was started by itself, with control/deployment/pyinfra_hosts.py.

It converges what can be converged from what is known: the lock, issuing, builds, the question and the verification are `paddock up`'s.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pyinfra.api import Host
from pyinfra.api.exceptions import PyinfraError

from control.deployment.knowledge import knowledge_for
from control.deployment.ownership import refusal, stranger
from control.deployment.work import Work
from control.state.fleet import FleetState
from control.state.lineage import lineage_of, told_hosts
from facts.state import State, probe_script
from inventory.knowledge import TO_BE_ISSUED
from inventory.load import load
from resources import File
from resources.drift import drift
from roles.host_plan import alternatives_of, doors_of, guards_of, host_plan, needs_of


def work_for(target: Host) -> Work:
    path = Path(target.data.paddock_inventory)
    fleet = load(path)
    this, state = fleet.hosts[target.name], FleetState.of(path, fleet.name)
    knowledge = knowledge_for(fleet, state, now=datetime.now(UTC))
    if target.name not in knowledge.hardware:
        raise PyinfraError(f"{target.name}: its hardware is not known yet: run `paddock plan`")
    plan = host_plan(this, fleet, knowledge)
    if due := [each.path for part in plan.values() for each in part if isinstance(each, File) and each.content == TO_BE_ISSUED]:
        raise PyinfraError(f"{target.name}: {', '.join(due)}: to be issued, which `paddock up` does")
    asked = tuple(each for part in plan.values() for each in part)
    try:
        actual = target.get_fact(State, resources=asked, _stdin=probe_script(asked))
    except (ValueError, LookupError) as error:
        raise PyinfraError(f"{target.name}: its answer makes no sense: {error}") from None
    found, needs, alternatives = drift(plan, actual, guards=guards_of(this)), needs_of(this, fleet), alternatives_of(this, fleet)
    work = Work(plan, actual, found, needs, doors=doors_of(fleet), alternatives=alternatives)
    if whose := stranger(actual.owner, fleet.name, lineage_of(state)):
        raise PyinfraError(f"{target.name}: {refusal(target.name, whose, work, fleet.name, state.path)}")
    if actual.lease and actual.lease.holds:
        raise PyinfraError(f"{target.name}: {actual.lease.words()}: wait for it")
    return replace(work, owner=told_hosts(state))

"""Has releases built for hosts that are not asked themselves: what is known of their hardware is enough."""

from __future__ import annotations

import control.cooperative  # isort: skip - first of all
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from control.builds import assigned
from control.context import context_for
from control.deployment import Deployment
from control.run import Tell
from control.state import FleetState
from control.work import Work
from facts.drift import Drift
from facts.state import Actual
from inventory.schema import Fleet
from roles.resources import Release

assert control.cooperative

NOTHING = Drift((), (), {}, {}, recorded=True)


def compile_for(wanted: Iterable[str], fleet: Fleet, state: FleetState, tell: Tell, ask: Callable[[str], bool]) -> Mapping[str, str]:
    """Has what the named hosts are to serve built, as far as it is not among the artifacts; they themselves are not asked.

    Gives host → why that could not be, none where all is well.
    """
    context = context_for(fleet, state, now=datetime.now(UTC))
    releases, failures = {}, {}
    for name in wanted:
        found = context.releases.get(name)
        if isinstance(found, Release):
            releases[name] = (found,)
        else:
            failures[name] = str(found or "nothing is known of its hardware, or its builder's, yet: `paddock plan` looks at them, once")
    assignment = assigned(releases, fleet, state, context, fleet.hosts)
    failures |= assignment.failures
    builders = tuple(fleet.hosts[name] for name in assignment.builds)
    if builders:
        deployment = Deployment(fleet, state, builders, tell, ask)
        with deployment.connected():
            deployment.run.converge({name: Work({}, Actual(), NOTHING, builds=each) for name, each in assignment.builds.items()})
        failures |= deployment.failures
    return failures

"""Has releases built for hosts that are not asked themselves: what is known of their hardware is enough."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from control.deployment.asking import refuse_strangers
from control.deployment.builds import assigned, kept
from control.deployment.deployment import Deployment
from control.deployment.knowledge import knowledge_for
from control.deployment.work import Work
from control.llama_cpp.artifacts import Artifacts
from control.ssh.run import Tell
from control.state.fleet import FleetState
from control.state.lock import Holder
from inventory.fleet import Fleet
from resources import Release
from resources.drift import Drift
from resources.probe import Actual

assert control.ssh.cooperative

NOTHING = Drift((), (), {}, {}, recorded=True)


def compile_for(
    wanted: Iterable[str], fleet: Fleet, state: FleetState, tell: Tell, ask: Callable[[str], bool], holder: Holder
) -> Mapping[str, str]:
    """Has what the named hosts are to serve built, as far as it is not among the artifacts; they themselves are not asked.
    A builder that is another state's builds nothing. Raises PaddockError where another run is changing a builder.

    Gives host → why that could not be, none where all is well.
    """
    knowledge = knowledge_for(fleet, state, now=datetime.now(UTC))
    releases, failures = {}, {}
    for name in wanted:
        found = knowledge.releases.get(name)
        if isinstance(found, Release):
            releases[name] = (found,)
        else:
            failures[name] = str(found or "its hardware, or its builder's, is not known yet: run `paddock plan`")
    assignment = assigned(releases, fleet, state, knowledge, fleet.hosts, kept({}, Artifacts(state)))
    failures |= assignment.failures
    builders = tuple(fleet.hosts[name] for name in assignment.builds)
    if builders:
        deployment = Deployment(fleet, state, builders, tell, ask, holder=holder)
        with deployment.connected():
            refuse_strangers(deployment.run, assignment.builds, state)
            deployment.take_leases(assignment.builds)
            lease = deployment.leases.id
            deployment.carry({name: Work({}, Actual(), NOTHING, builds=each, lease=lease) for name, each in assignment.builds.items()})
        failures |= deployment.failures
    return failures

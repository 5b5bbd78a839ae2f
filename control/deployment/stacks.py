"""The stacks of a host as the inventory alone says them: what they are called needs nothing that only the state or the host knows."""

from __future__ import annotations

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Stack, of_kind
from roles.host_plan import host_plan

ENGINE = "docker"
"""The role of the hosts that can have stacks."""


def stacks_of(fleet: Fleet, host: Host) -> tuple[Stack, ...]:
    """Raises PaddockError where the host cannot be planned."""
    if ENGINE not in host.carried:
        return ()
    planned = host_plan(host, fleet, Knowledge())
    return tuple(stack for part in planned.values() for stack in of_kind(part, Stack))

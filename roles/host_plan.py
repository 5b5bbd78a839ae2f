"""All that one host is to be: its roles' plans, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from inventory.errors import PaddockError
from roles import plan_of
from roles.resources import Resource, ResourceError, expand

if TYPE_CHECKING:
    from inventory.context import Context
    from inventory.schema import Fleet, Host

HostPlan = Mapping[str, tuple[Resource, ...]]
"""Role → its resources, in deployment order."""


def host_plan(host: Host, fleet: Fleet, context: Context) -> HostPlan:
    """The plan of every role that the host carries. An identity belongs to the role that declares it first. Raises PaddockError."""
    planned = [
        (role, resource) for role, settings in host.carried.items() for resource in plan_of(role).plan(host, settings, fleet, context)
    ]
    parts: dict[str, list[Resource]] = {role: [] for role in host.carried}
    try:
        for role, resource in expand(planned):
            parts[role].append(resource)
    except ResourceError as error:
        raise PaddockError(f"hosts.{host.name}: {error}") from None
    return {role: tuple(resources) for role, resources in parts.items()}


def needs_of(host: Host, fleet: Fleet) -> Mapping[str, frozenset[str]]:
    """Role → the other hosts that must be ready before this host takes it on."""
    needs = {}
    for role, settings in host.carried.items():
        ask = getattr(plan_of(role), "needs", None)
        needs[role] = frozenset(ask(host, settings, fleet) if ask else ()) - {host.name}
    return needs

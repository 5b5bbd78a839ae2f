"""All that one host is to be: its roles' plans, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from inventory.errors import PaddockError
from resources import Resource, ResourceError, Service, expand
from roles import plan_of
from roles.quoting import Unquotable

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge

HostPlan = Mapping[str, tuple[Resource, ...]]
"""Role → its resources, in deployment order."""


def host_plan(host: Host, fleet: Fleet, knowledge: Knowledge) -> HostPlan:
    """The plan of every role that the host carries. An identity belongs to the role that declares it first. Raises PaddockError.

    A role with a `plan_beside` in place of a `plan` is planned last, and is given what the others declare.
    """
    planned: dict[str, tuple[Resource, ...]] = {}
    beside: list[str] = []
    for role, settings in host.carried.items():
        planned[role] = ()
        if hasattr(plan_of(role), "plan_beside"):
            beside.append(role)
        else:
            with _named(host, role):
                planned[role] = tuple(plan_of(role).plan(host, settings, fleet, knowledge))
    others = tuple(each for resources in planned.values() for each in resources)
    for role in beside:
        with _named(host, role):
            planned[role] = tuple(plan_of(role).plan_beside(host, host.carried[role], fleet, others))
    parts: dict[str, list[Resource]] = {role: [] for role in host.carried}
    accepted = tuple(path for settings in host.carried.values() for path in settings.accepts())
    try:
        for role, resource in expand((role, resource) for role, resources in planned.items() for resource in resources):
            parts[role].append(replace(resource, accepted=accepted) if accepted and isinstance(resource, Service) else resource)
    except ResourceError as error:
        raise PaddockError(f"hosts.{host.name}: {error}") from None
    return {role: tuple(resources) for role, resources in parts.items()}


@contextmanager
def _named(host: Host, role: str) -> Iterator[None]:
    """Raises PaddockError, with the host and the role in it, for text that a file cannot hold."""
    try:
        yield
    except Unquotable as error:
        raise PaddockError(f"hosts.{host.name}.roles.{role}: {error}") from None


def needs_of(host: Host, fleet: Fleet) -> Mapping[str, frozenset[str]]:
    """Role → the other hosts that must be ready before this host takes it on."""
    needs = {}
    for role, settings in host.carried.items():
        ask = getattr(plan_of(role), "needs", None)
        needs[role] = frozenset(ask(host, settings, fleet) if ask else ()) - {host.name}
    return needs


def doors_of(fleet: Fleet) -> frozenset[str]:
    """The hosts that pass requests on: what leaves a host waits until they point elsewhere."""
    return frozenset(entrance.host for entrance in fleet.entrances())


def guards_of(host: Host) -> frozenset[str]:
    """The host's roles that keep callers away from ports."""
    return frozenset(role for role, settings in host.carried.items() if settings.guards_ports)


def refusals_of(host: Host, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """Why the host cannot be what its roles ask of it, a line each, before anything there is touched. Raises PaddockError."""
    for role, settings in host.carried.items():
        if ask := getattr(plan_of(role), "refusals", None):
            yield from ask(host, settings, fleet, knowledge)


def remarks_of(host: Host, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """What is to be known of the host though its roles take it as it is, a line each. Raises PaddockError."""
    for role, settings in host.carried.items():
        if ask := getattr(plan_of(role), "remarks", None):
            yield from ask(host, settings, fleet, knowledge)

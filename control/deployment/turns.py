"""Hosts that stand in for each other are not without a server at the same time: those that have a model in common take turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from control.deployment.work import Turn, Work
from inventory.fleet import Fleet
from resources import Service


def turns(works: Mapping[str, Work], fleet: Fleet) -> dict[str, Mapping[str, Turn]]:
    """Host → role → when its services are restarted, for roles of which a host has to wait for another. Hosts that have no model in common
    go together."""
    taken: list[set[str]] = []
    numbers: dict[str, int] = {}
    roles: set[str] = set()
    for host, work in works.items():
        away = dict(_away(work))
        models = {model for server in fleet.servers(host) if server.unit in away for model in server.models}
        number = next((at for at, others in enumerate(taken) if not others & models), len(taken)) if models else 0
        taken += [set()] if number == len(taken) else []
        taken[number] |= models
        numbers[host] = number
        roles |= set(away.values())
    return {host: dict.fromkeys(roles, Turn(numbers[host], len(taken))) if len(taken) > 1 else {} for host in works}


def _away(work: Work) -> Iterator[tuple[str, str]]:
    """The services that callers wait for while they are restarted, each with its role."""
    for change in work.drift.changes:
        if isinstance(change.resource, Service) and change.resource.drains and change.action == "restart":
            yield change.resource.unit, change.role

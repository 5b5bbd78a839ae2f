"""All that one host is to be: its roles' plans, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from inventory.errors import InventoryError, PaddockError
from resources import Directory, ModelFile, Release, Resource, ResourceError, Service, expand
from roles import ROLES, plan_of, settings_of
from roles.quoting import Unquotable
from roles.references import Finding
from roles.role import port_of

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge

HostPlan = Mapping[str, tuple[Resource, ...]]
"""Role → its resources, in deployment order."""


def host_plan(host: Host, fleet: Fleet, knowledge: Knowledge, earlier: HostPlan | None = None) -> HostPlan:
    """The plan of every role that the host carries. An identity belongs to the role that declares it first. Raises PaddockError.

    A role with a `plan_beside` in place of a `plan` is planned last, and is given what the others declare. With `earlier`, the roles that
    roll back are those that it has, and as it has them.
    """
    before = earlier or {}
    roles = [role for role in ROLES if role in before or (role in host.carried and not (earlier is not None and rolls_back(role)))]
    planned: dict[str, tuple[Resource, ...]] = dict.fromkeys(roles, ())
    for role in sorted(roles, key=lambda each: each not in before and _is_beside(each)):
        with _named(host, role):
            planned[role] = before[role] if role in before else tuple(_planned(host, role, fleet, knowledge, planned))
    return _expanded(host, planned)


def rolls_back(role: str) -> bool:
    """Whether `paddock rollback` puts back how the role was."""
    return role in ROLES and settings_of(role).rolls_back


def faults_of(host: Host, fleet: Fleet, knowledge: Knowledge) -> Iterator[Finding]:
    """All that keeps the host's roles from being planned, as far as it can be told at once.

    A role with a `plan_beside` says in `faults_beside` what there is to say of it, and is given the ports of the roles that have no plan;
    where there are such roles, its own plan is not tried.
    """
    planned: dict[str, tuple[Resource, ...]] = dict.fromkeys(host.carried, ())
    failed: dict[str, None] = {}
    for role in _in_order(host):
        if beside := getattr(plan_of(role), "faults_beside", None):
            unknown = frozenset(port_of(each) for other in failed for each in host.carried[other].endpoints())
            found = tuple(beside(host, host.carried[role], fleet, _of_others(planned), unknown))
            yield from found
            failed |= {role: None} if found else {}
        if failed and _is_beside(role):
            continue
        resources: list[Resource] = []
        try:
            resources.extend(_planned(host, role, fleet, knowledge, planned))
        except InventoryError as error:
            failed[role] = None
            yield from (Finding(("roles", role), words) for words in error.problems)
        except (PaddockError, ResourceError, Unquotable) as error:
            failed[role] = None
            yield Finding(("roles", role), str(error))
        planned[role] = tuple(resources)
    clashes = tuple(_clashes(host, planned))
    yield from clashes
    if not failed and not clashes:
        try:
            _expanded(host, planned)
        except PaddockError as error:
            yield Finding((), str(error))


def _expanded(host: Host, planned: Mapping[str, tuple[Resource, ...]]) -> HostPlan:
    parts: dict[str, list[Resource]] = {role: [] for role in planned}
    accepted = tuple(path for settings in host.carried.values() for path in settings.accepts())
    try:
        for role, resource in expand((role, resource) for role, resources in planned.items() for resource in resources):
            parts[role].append(replace(resource, accepted=accepted) if accepted and isinstance(resource, Service) else resource)
    except ResourceError as error:
        raise PaddockError(f"hosts.{host.name}: {error}") from None
    return {role: tuple(resources) for role, resources in parts.items()}


def _in_order(host: Host) -> list[str]:
    """The host's roles, those last that are given what the others declare."""
    return sorted(host.carried, key=_is_beside)


def _is_beside(role: str) -> bool:
    return hasattr(plan_of(role), "plan_beside")


def _planned(host: Host, role: str, fleet: Fleet, knowledge: Knowledge, planned: Mapping[str, tuple[Resource, ...]]) -> Iterator[Resource]:
    if _is_beside(role):
        yield from plan_of(role).plan_beside(host, host.carried[role], fleet, _of_others(planned))
    else:
        yield from plan_of(role).plan(host, host.carried[role], fleet, knowledge)


def _of_others(planned: Mapping[str, tuple[Resource, ...]]) -> tuple[Resource, ...]:
    return tuple(each for role, resources in planned.items() if not _is_beside(role) for each in resources)


def _clashes(host: Host, planned: Mapping[str, tuple[Resource, ...]]) -> Iterator[Finding]:
    """Directories that a person chose for one role, and that another role has for itself."""
    for role, resources in planned.items():
        theirs = [(other, each) for other, others in planned.items() if other != role for each in others]
        for keys, chosen in _paths(host.carried[role].model_dump(exclude_none=True)):
            if not any(_is_in(each.path, chosen) for each in resources if isinstance(each, Directory | ModelFile)):
                continue
            for other, each in theirs:
                if found := _taken(each, chosen):
                    words = f"{found} belongs to the role {other}: name another directory"
                    yield Finding(("roles", role, *keys), words, of_value=True)
                    break


def _paths(value: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The absolute paths in settings, each with the keys that lead there."""
    if isinstance(value, str) and value.startswith("/"):
        yield keys, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, (*keys, str(key)))


def _taken(resource: Resource, path: str) -> str:
    """The directory that a role has for itself, where the path lies in it; empty where it does not."""
    if isinstance(resource, Release):
        directory = resource.path.rpartition("/")[0]
        return directory if _is_in(path, directory) else ""
    if isinstance(resource, Directory) and (resource.path == path or (resource.exclusive and _is_in(path, resource.path))):
        return resource.path
    return ""


def _is_in(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory}/")


@contextmanager
def _named(host: Host, role: str) -> Iterator[None]:
    """Raises PaddockError, with the host and the role in it, for text that a file cannot hold."""
    try:
        yield
    except (Unquotable, ResourceError) as error:
        raise PaddockError(f"hosts.{host.name}.roles.{role}: {error}") from None


def needs_of(host: Host, fleet: Fleet) -> Mapping[str, frozenset[str]]:
    """Role → the other hosts that must be ready before this host takes it on."""
    needs = {}
    for role, settings in host.carried.items():
        ask = getattr(plan_of(role), "needs", None)
        needs[role] = frozenset(ask(host, settings, fleet) if ask else ()) - {host.name}
    return needs


def alternatives_of(host: Host, fleet: Fleet) -> Mapping[str, tuple[frozenset[str], ...]]:
    """Role → hosts of which at least one must be ready before this host takes it on."""
    found = {}
    for role, settings in host.carried.items():
        ask = getattr(plan_of(role), "needs_one_of", None)
        found[role] = tuple(map(frozenset, ask(host, settings, fleet))) if ask else ()
    return found


def doors_of(fleet: Fleet) -> frozenset[str]:
    """The hosts that pass requests on: what leaves a host waits until they point elsewhere."""
    return frozenset(entrance.host for entrance in fleet.entrances()) | fleet.asking


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

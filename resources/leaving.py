"""When what left the inventory leaves its host.

At once, but for a service that others may still ask: it stays, with what it may use, until the reverse proxies point elsewhere, where the
host has room for it. For what leads a reverse proxy to other hosts there always is. What lies in a directory that a service reads whole
goes with the files of its role, just before it reads that anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from resources import ENGINE, Directory, OnDisk, Release, Resource, Service, Stack, kind_of, of_kind
from resources.base import PADDOCKS, Origin
from resources.probe import Actual
from resources.service import TRIGGERS

AT_ONCE, LAST = "", "last"
"""Before all roles, and after them; between the two stands the name of a role."""

LEADS_ELSEWHERE = "service:paddock-caddy-tunnel"
"""How the ids begin of what leads a reverse proxy to other hosts. It has no port, no card and hardly any memory."""

UNITS = ("/etc/systemd/system/", "/etc/systemd/user/", "/var/lib/systemd/linger/")

Doing = Mapping[str, str]
"""What happens to services: id → action."""


def stages(
    gone: Mapping[str, Origin], planned: Mapping[str, Sequence[Resource]], actual: Actual, doing: Doing, guards: Collection[str] = ()
) -> tuple[dict[str, str], bool]:
    """Id → when it leaves: AT_ONCE, with a role's files, or LAST. And whether something with a port may stay until then. `guards` are the
    roles that keep callers away from ports."""
    resources = [each for part in planned.values() for each in part]
    found = _Leaving(planned, resources, actual, doing)
    staying = {name for name in _services(gone) if not found.is_in_the_way(name)}
    cramped = _is_cramped(resources, actual, doing, guards if planned.keys() & set(guards) else ())
    waits = {name for name in staying if not cramped or name.startswith(LEADS_ELSEWHERE)}
    return {name: AT_ONCE if name in staying - waits else found.stage(name, waits) for name in gone}, bool(waits) and not cramped


def _services(gone: Mapping[str, Origin]) -> Iterator[str]:
    """Those that Paddock put there, which somebody may ask. (What a timer or a path unit starts is no resource.)"""
    yield from (name for name, origin in gone.items() if name.startswith("service:") and origin == "put" and not name.endswith(TRIGGERS))


def _is_cramped(resources: Iterable[Resource], actual: Actual, doing: Doing, guards: Collection[str]) -> bool:
    """Whether what starts leaves no room for what left: a card or memory has room for one of two llama-servers; and rules that are to guard
    a new port would leave an old one open."""
    started = [each for each in of_kind(resources, Service) if doing.get(each.id) in ("put", "restart") and not each.is_trigger]
    ports = (port for each in started for port in each.ports if doing[each.id] == "put" or port.id not in actual.resources)
    opened = (port for port in ports if port.reachable_from is not None)
    return any(of_kind(each.restarts, Release) for each in started) or bool(guards and any(opened))


class _Leaving:
    def __init__(self, planned: Mapping[str, Sequence[Resource]], resources: Sequence[Resource], actual: Actual, doing: Doing) -> None:
        services, stacks = of_kind(resources, Service), of_kind(resources, Stack)
        self.own = {
            directory.path: role
            for role, part in planned.items()
            for service in of_kind(part, Service)
            for directory in of_kind(service.reads, Directory)
            if doing.get(service.id) in ("put", "restart", "reload") and directory.exclusive
        }
        self.paths = {each.path: isinstance(each, Directory) for each in of_kind(resources, OnDisk)}
        self.dropins = tuple(f"{each.dropins}/" for each in services)
        self.read = bool(services)
        ports = [port for each in services for port in each.ports] + [port for each in stacks for port in each.ports]
        held = [(port, unit) for port in ports for unit in actual.resources.get(port.id, {}).get("unit", "").split()]
        self.holders = {unit for _, unit in held}
        self.published = any(unit == ENGINE != port.unit for port, unit in held)

    def stage(self, name: str, waits: Collection[str]) -> str:
        if self.is_in_the_way(name):
            return AT_ONCE
        path = _path(name)
        if role := next((role for directory, role in self.own.items() if path.startswith(f"{directory}/")), None):
            return role
        if not waits or (name not in waits and self._may_be_read(name, path)):
            return AT_ONCE
        return LAST

    def is_in_the_way(self, name: str) -> bool:
        """Of a port that is declared, or of a path."""
        if name.startswith("service:"):
            return name.rpartition("/")[2].removeprefix("service:") in self.holders
        if name.startswith("stack:"):  # the engine does not say which of them it listens for
            return self.published
        path, is_directory = _path(name), name.startswith("directory:")
        return bool(path) and any(
            path == wanted or (wanted.startswith(f"{path}/") and not is_directory) or (path.startswith(f"{wanted}/") and not directory)
            for wanted, directory in self.paths.items()
        )

    def _may_be_read(self, name: str, path: str) -> bool:
        """By a service that stays, or by the system: what lies neither in Paddock's own directories nor among units."""
        if path.startswith(self.dropins):
            return True
        return self.read and bool(path) and not name.startswith("directory:") and not path.startswith((*PADDOCKS, *UNITS))


def _path(name: str) -> str:
    """Where a resource lies, by its id; empty of one that lies nowhere."""
    kind, _, rest = name.partition(":")
    found = kind_of(kind)
    if found is None or not issubclass(found, OnDisk):
        return ""
    return rest.partition(": ")[0] if kind == "line" else rest

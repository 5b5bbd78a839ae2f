"""What a host keeps of a plan's changes, to put it back."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resources.base import Resource, of_kind
from resources.disk import Directory, File, Link
from resources.guard import Guard
from resources.package import Package
from resources.release import Release
from resources.service import Service
from resources.steps import Steps
from resources.venv import Venv

if TYPE_CHECKING:
    from resources.drift import Change

CERTIFICATE = b"-----BEGIN "
UNITS = "/etc/systemd/"


@dataclass(frozen=True)
class Kept:
    """What a host keeps as it is before a switch: paths, the units that run with what lies there, and packages. `undo` has, by a name, how
    more than files is taken back (Service.takes_back)."""

    paths: tuple[str, ...]
    units: tuple[str, ...]
    packages: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    undo: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.paths or self.units or self.packages)

    def arm(self, steps: Steps, guard: Guard) -> None:
        """The steps are a part of the switch: before them all is kept, after them the time begins."""
        own = Steps()
        own.add("guard_arm", guard.deadline_s, guard.id, guard.words, *self.paths, "--", *self.units)
        if self.secret:
            own.add("guard_secret", *self.secret)
        for name in self.packages:
            own.add("guard_package", name)
        for name, commands in self.undo.items():
            own.add("guard_undo", name, *commands)
        steps.calls[:0] = own.calls
        steps.add("guard_extend", guard.deadline_s, guard.id)


def kept(changes: Iterable[Change], planned: Sequence[Resource], admitting: Iterable[str]) -> Kept:
    """What is put back of these changes. Nothing of the roles that decide who is let in, no secret, and nothing that lies with
    certificates; but the services of these roles too that run a release which is switched."""
    certified = {each.path.rpartition("/")[0] for each in of_kind(planned, File) if not each.secret and _is_certificate(each)}
    theirs, found = frozenset(admitting), [each for each in changes if each.resource is not None and each.action != "keep"]
    released = any(isinstance(each.resource, Release) for each in found)
    paths = (path for each in found if each.role not in theirs for path in _paths(each.resource, certified))
    units = (
        each.resource.unit
        for each in found
        if isinstance(each.resource, Service)
        and each.action in ("put", "restart")
        and (each.role not in theirs or (released and of_kind(each.resource.restarts, Release)))
    )
    return Kept(tuple(dict.fromkeys(paths)), tuple(dict.fromkeys(units)))


def kept_versions(changes: Iterable[Change], planned: Sequence[Resource]) -> Kept:
    """What is put back where another version of a program that lets people in is taken back, out of its role's changes: the program, its
    units, and the configuration that only that version reads. Who is let in by that is as it is then."""
    found = [each for each in changes if each.resource is not None and each.action != "keep"]
    paths, undo = [], dict[str, tuple[str, ...]]()
    for each in found:
        match each.resource:
            case Venv():
                paths.append(each.resource.current)
            case File() if each.resource.goes_back or each.resource.path.startswith(UNITS):
                paths.append(each.resource.path)
    services = [each.resource for each in found if isinstance(each.resource, Service) and each.action in ("put", "restart")]
    for service in services:
        if service.takes_back:
            undo[service.unit] = service.takes_back
    for file in of_kind([each.resource for each in found if each.resource], File):
        if file.goes_back and not file.secret:
            undo[file.path.replace("/", "-")] = _with_newest_lists(file, planned)
    packages = (each.resource.name for each in found if isinstance(each.resource, Package) and each.sign == "~")
    secret = (each.path for each in of_kind([each.resource for each in found if each.resource], File) if each.secret)
    return Kept(tuple(paths), tuple(each.unit for each in services), tuple(packages), tuple(secret), undo)


def _with_newest_lists(file: File, planned: Sequence[Resource]) -> tuple[str, ...]:
    """What lies beside the file says who is let in. Where that has changed since, the file stays too: the old one would let in others."""
    note = f"sha256sum {shlex.join(each.path for each in lists_beside(file, planned))} 2>&1 || true"
    path = shlex.quote(file.path)
    before = f'{{ {note}; }} | cmp -s - "$1/noted" || cp -p {path} "$1/files"{path}'
    return note, before, "true"


def lists_beside(file: File, planned: Sequence[Resource]) -> list[File]:
    """The files by which one that `goes_back` lets people in."""
    beside = file.path.rpartition("/")[0]
    return [each for each in of_kind(planned, File) if each.path.startswith(f"{beside}/") and not each.goes_back and not each.secret]


def _is_certificate(file: File) -> bool:
    return isinstance(file.content, str | bytes) and not file.is_unopened and CERTIFICATE in file.data


def _paths(resource: Resource | None, certified: set[str]) -> Iterator[str]:
    match resource:
        case Release():
            yield resource.current
        case File() if resource.secret:
            pass
        case File() | Link() | Directory():
            if resource.path not in certified and resource.path.rpartition("/")[0] not in certified:
                yield resource.path

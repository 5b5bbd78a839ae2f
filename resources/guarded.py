"""What a host keeps of a plan's changes, to put it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resources.base import Resource, of_kind
from resources.disk import Directory, File, Link
from resources.guard import Guard
from resources.release import Release
from resources.service import Service
from resources.steps import Steps

if TYPE_CHECKING:
    from resources.drift import Change

CERTIFICATE = b"-----BEGIN "


@dataclass(frozen=True)
class Kept:
    """What a host keeps as it is before a switch: paths, and the units that run with what lies there."""

    paths: tuple[str, ...]
    units: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.paths or self.units)

    def arm(self, steps: Steps, guard: Guard) -> None:
        """The steps are a part of the switch: before them all is kept, after them the time begins."""
        own = Steps()
        own.add("guard_arm", guard.deadline_s, guard.id, guard.words, *self.paths, "--", *self.units)
        steps.calls.insert(0, own.calls[0])
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

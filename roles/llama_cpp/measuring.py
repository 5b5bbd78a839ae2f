"""What resources/measure.sh is given: a service as the release that serves runs it, and as another would, and what both are asked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from inventory.errors import PaddockError
from resources import Release, Resource, on_trial
from roles.llama_cpp.gate import ELSEWHERE, Instance, Place, instances
from roles.role import render

Name = Literal["baseline", "canary"]
"""The release that serves, and the one that is to serve in its place."""

HOME = "/run/paddock-measure"
"""Where a measurement is unpacked (resources/measure.sh)."""


@dataclass(frozen=True)
class Side:
    """A release, and all resources of the host with it, as `expand` gives them."""

    release: Release
    resources: tuple[Resource, ...]


@dataclass(frozen=True)
class Request:
    """What is asked with a POST. In the body `@@` becomes the number of the pass and the round. One that is `timed` is asked in every
    round, the others once a pass, before it, in their order."""

    name: str
    path: str
    body: bytes
    timed: bool = False


def measurement(unit: str, baseline: Side, canary: Side, requests: Sequence[Request]) -> bytes:
    """The tar archive that resources/measure.sh takes. Raises PaddockError where the service is not one that can be measured alone."""
    packed = io.BytesIO()
    sides: tuple[tuple[Name, Side], ...] = (("baseline", baseline), ("canary", canary))
    members = [member for name, side in sides for member in _of_side(name, unit, side)]
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (*members, *_of_requests(requests)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644  # the service's user reads some of them
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def program() -> bytes:
    """The program that measures: the text of resources/measure.sh, whole."""
    return f"{render('shared/drm.sh')}\n{render('shared/nvidia.sh')}\n".encode() + on_trial("measure.sh")


def place(name: Name) -> Place:
    socket = f"{HOME}-{name}/http.sock"
    return Place(f"{HOME}/{name}", socket, {"--host": socket, "--log-file": "/dev/null", "--slot-save-path": "/tmp"}, serves=True)


def _of_side(name: Name, unit: str, side: Side) -> Iterator[tuple[str, bytes]]:
    found = _instance(name, unit, side)
    yield f"{name}/program", _lines([f"{side.release.path}/bin/llama-server"])
    yield f"{name}/arguments", _lines(found.arguments)
    yield f"{name}/properties", _lines(found.properties)
    yield f"{name}/environment", _lines(f"{variable}={value}" for variable, value in side.release.environment)
    yield from ((f"{name}/services/{unit}/{file}", content) for file, content in found.files.items())


def _instance(name: Name, unit: str, side: Side) -> Instance:
    found = next((each for each in instances(side.resources, side.release, place(name)) if each.unit == unit), None)
    if found is None:
        raise PaddockError(f"{unit} does not run llama.cpp {side.release.name}: there is nothing to measure")
    if ELSEWHERE & {*found.arguments}:
        raise PaddockError(f"{unit} computes on other hosts, whose workers are of its own version: it cannot be measured beside itself")
    return found


def _of_requests(requests: Sequence[Request]) -> Iterator[tuple[str, bytes]]:
    for number, each in enumerate(requests):
        directory = f"{'rounds' if each.timed else 'once'}/{number:02}"
        yield f"{directory}/name", _lines([each.name])
        yield f"{directory}/path", _lines([each.path])
        yield f"{directory}/body", each.body


def _lines(entries: Iterable[str]) -> bytes:
    return "".join(f"{each}\n" for each in entries).encode()

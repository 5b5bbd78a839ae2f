"""The wheels of a program of services/: which of its lock a host takes, and where they lie here, ~/.cache/paddock/wheels/SHA256/NAME."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Environment
from packaging.pylock import PackageWheel, Pylock, PylockSelectError
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from control.fetching.download import Progress, fetched
from control.fetching.package_index import find_wheels
from control.fetching.project import project_wheel
from control.state.fleet import in_words, write_atomically
from inventory.errors import PaddockError
from inventory.hardware import Hardware, python_of
from resources import Wheel

CACHE = Path("~/.cache/paddock/wheels")

OLDEST_GLIBC = 5
"""No wheel is for a C library before 2.5 (PEP 513)."""

BEFORE_PEP_600 = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def wheels_of(project: str, hardware: Hardware) -> tuple[Wheel, ...]:
    """The project's own wheel, then one of each package that its lock has for this machine. Asks nobody.

    Raises PaddockError where the machine's Python is not known or too old, or a package has no wheel for it.
    """
    python = python_of(hardware)
    if not python:
        has_none = f"{hardware.distribution or 'the host'} has none yet"
        raise PaddockError(f"{project} needs to know which python3 it is to run with, and {has_none}")
    return (project_wheel(project)[0], *_of_lock(project, Machine(python, hardware.architecture, hardware.libc)))


class Machine(NamedTuple):
    """What decides which wheels a host takes: `Machine("3.13", "aarch64", "2.41")`."""

    python: str
    architecture: str
    glibc: str
    """Its version; empty where the host could not say."""

    def __str__(self) -> str:
        return f"Python {self.python} on {self.architecture} with glibc {self.glibc or 'of an unknown version'}"


@cache
def _of_lock(project: str, machine: Machine) -> tuple[Wheel, ...]:
    """Hosts of one kind are many."""
    return tuple(locked_wheels(lock_of(project), project, machine))


@cache
def lock_of(project: str) -> Pylock:
    return Pylock.from_dict(tomllib.loads(files("services").joinpath(project, "pylock.toml").read_text(encoding="utf-8")))


def locked_wheels(lock: Pylock, project: str, machine: Machine) -> Iterator[Wheel]:
    """In the order of the lock. Raises PaddockError."""
    if lock.requires_python and not lock.requires_python.contains(f"{machine.python}.0"):
        raise PaddockError(f"{project} needs Python {lock.requires_python}, and this host has {machine.python}")
    try:
        chosen = list(lock.select(environment=_environment(machine), tags=list(_tags(machine))))
    except PylockSelectError as error:
        raise PaddockError(f"{project} cannot be put together for {machine}: {error}") from None
    if lacks := [f"{each.name} {each.version}" for each, found in chosen if not isinstance(found, PackageWheel)]:
        raise PaddockError(f"{project} needs {_listed(lacks)}, without a wheel for {machine}: give {project} to another host")
    yield from (_wheel(found) for _, found in chosen if isinstance(found, PackageWheel))


def missing(wheels: Iterable[Wheel]) -> list[Wheel]:
    """Those that are not here yet."""
    return [each for each in wheels if not _place(each).is_file()]


def wheels_here(wheels: Sequence[Wheel], projects: Iterable[str], progress: Progress) -> Path:
    """The directory with these wheels, as SHA256/NAME each. What is missing there is built, of our `projects`, or fetched.

    Raises PaddockError where no index has one, or what comes is another file.
    """
    built = dict(project_wheel(each) for each in projects)
    lacking = {each.name: each for each in missing(wheels)}
    for wheel in lacking.values():
        with in_words(_place(wheel), "cannot be written"):
            _place(wheel).parent.mkdir(parents=True, exist_ok=True)
        if wheel in built:
            write_atomically(_place(wheel), built[wheel])
    for name, link in find_wheels({name: each.sha256 for name, each in lacking.items() if each not in built}):
        place, sha256 = _place(lacking[name]), lacking[name].sha256
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            came = fetched(link.url, sha256, Path(scratch), aside=place.parent, progress=progress, session=link.session)
            came.replace(place)
    return CACHE.expanduser()


def _place(wheel: Wheel) -> Path:
    return CACHE.expanduser() / wheel.sha256 / wheel.name


def _wheel(found: PackageWheel) -> Wheel:
    return Wheel(found.filename, found.hashes["sha256"], found.size or 0)


def _listed(packages: Sequence[str]) -> str:
    """`orjson 3.13.0, uvloop 0.23.0 and yarl 1.25.1`"""
    *before, last = packages
    return f"{', '.join(before)} and {last}" if before else last


def _environment(machine: Machine) -> Environment:
    """What markers are evaluated against (packaging.python.org: dependency specifiers). No package asks for the last part of a version."""
    return Environment(
        implementation_name="cpython",
        implementation_version=f"{machine.python}.0",
        os_name="posix",
        platform_machine=machine.architecture,
        platform_release="",
        platform_system="Linux",
        platform_version="",
        python_full_version=f"{machine.python}.0",
        platform_python_implementation="CPython",
        python_version=machine.python,
        sys_platform="linux",
    )


def _tags(machine: Machine) -> Iterator[Tag]:
    """The best first."""
    major, minor = map(int, machine.python.split("."))
    platforms, abi = list(_platforms(machine)), f"cp{major}{minor}"
    yield from chain(
        cpython_tags((major, minor), abis=[abi], platforms=platforms),
        compatible_tags((major, minor), interpreter=abi, platforms=platforms),
    )


def _platforms(machine: Machine) -> Iterator[str]:
    """The names of what runs with this C library and with every older one (PEP 600), the newest first."""
    major, _, minor = machine.glibc.partition(".")
    for each in range(int(minor) if major == "2" and minor.isdecimal() else 0, OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{each}_{machine.architecture}"
        if each in BEFORE_PEP_600:
            yield f"{BEFORE_PEP_600[each]}_{machine.architecture}"
    yield f"linux_{machine.architecture}"


def program_of(wheels: Sequence[Wheel]) -> str:
    """`paddock-gateway 0.1.0`, of the first of them."""
    name, version, *_ = parse_wheel_filename(wheels[0].name)
    return f"{name} {version}"

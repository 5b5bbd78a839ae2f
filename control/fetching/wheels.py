"""The wheels of a program of services/: which of its lock a host takes, and where they lie here, ~/.cache/paddock/wheels/SHA256/NAME."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from pathlib import Path

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
    return (project_wheel(project)[0], *locked_wheels(lock_of(project), project, hardware))


@cache
def lock_of(project: str) -> Pylock:
    return Pylock.from_dict(tomllib.loads(files("services").joinpath(project, "pylock.toml").read_text(encoding="utf-8")))


def locked_wheels(lock: Pylock, project: str, hardware: Hardware) -> Iterator[Wheel]:
    """In the order of the lock. Raises PaddockError."""
    python = python_of(hardware)
    if not python:
        raise PaddockError(
            f"{project} needs to know which python3 it is to run with, and {hardware.distribution or 'the host'} has none yet"
        )
    machine = f"Python {python} on {hardware.architecture} with glibc {hardware.libc or 'of an unknown version'}"
    try:
        chosen = list(lock.select(environment=_environment(python, hardware), tags=list(_tags(python, hardware))))
    except PylockSelectError:
        raise PaddockError(f"{project} needs Python {lock.requires_python}, and this host has {python}") from None
    if lacks := [each.name for each, found in chosen if not isinstance(found, PackageWheel)]:
        raise PaddockError(f"{project} needs {_listed(lacks, lock)}, without a wheel for {machine}: give {project} to another host")
    yield from (_wheel(found) for _, found in chosen if isinstance(found, PackageWheel))


def missing(wheels: Iterable[Wheel]) -> list[Wheel]:
    """Those that are not here yet."""
    return [each for each in wheels if not _place(each).is_file()]


def wheels_here(wheels: Sequence[Wheel], projects: Iterable[str], progress: Progress) -> Path:
    """The directory with these wheels, as SHA256/NAME each. What is missing there is built, of our `projects`, or fetched.

    Raises PaddockError where no index has one, or what comes is another file.
    """
    built = dict(project_wheel(each) for each in projects)
    for wheel in wheels:
        if wheel in built and wheel in missing([wheel]):
            with in_words(_place(wheel), "cannot be written"):
                _place(wheel).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(_place(wheel), built[wheel])
    lacking = {each.name: each for each in missing(wheels)}
    for name, link in find_wheels({name: each.sha256 for name, each in lacking.items()}):
        place = _place(lacking[name])
        with in_words(place, "cannot be written"):
            place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            fetched(link.url, lacking[name].sha256, Path(scratch), aside=place.parent, progress=progress, session=link.session).replace(
                place
            )
    return CACHE.expanduser()


def _place(wheel: Wheel) -> Path:
    return CACHE.expanduser() / wheel.sha256 / wheel.name


def _wheel(found: PackageWheel) -> Wheel:
    return Wheel(found.filename, found.hashes["sha256"], found.size or 0)


def _listed(names: Sequence[str], lock: Pylock) -> str:
    """`uvloop 0.23.0 and orjson 3.13.0`"""
    versions = {str(each.name): f"{each.name} {each.version}" for each in lock.packages}
    *before, last = (versions[each] for each in names)
    return f"{', '.join(before)} and {last}" if before else last


def _environment(python: str, hardware: Hardware) -> Environment:
    """What markers are evaluated against (packaging.python.org: dependency specifiers). No package asks for the last part of a version."""
    return Environment(
        implementation_name="cpython",
        implementation_version=f"{python}.0",
        os_name="posix",
        platform_machine=hardware.architecture,
        platform_release=hardware.kernel,
        platform_system="Linux",
        platform_version="",
        python_full_version=f"{python}.0",
        platform_python_implementation="CPython",
        python_version=python,
        sys_platform="linux",
    )


def _tags(python: str, hardware: Hardware) -> Iterator[Tag]:
    """The best first."""
    major, minor = map(int, python.split("."))
    platforms, abi = list(_platforms(hardware)), f"cp{major}{minor}"
    yield from chain(
        cpython_tags((major, minor), abis=[abi], platforms=platforms),
        compatible_tags((major, minor), interpreter=abi, platforms=platforms),
    )


def _platforms(hardware: Hardware) -> Iterator[str]:
    """The names of what runs with this C library and with every older one (PEP 600), the newest first."""
    major, _, minor = hardware.libc.partition(".")
    for each in range(int(minor) if major == "2" and minor.isdecimal() else 0, OLDEST_GLIBC - 1, -1):
        yield f"manylinux_2_{each}_{hardware.architecture}"
        if each in BEFORE_PEP_600:
            yield f"{BEFORE_PEP_600[each]}_{hardware.architecture}"
    yield f"linux_{hardware.architecture}"


def program_of(wheels: Sequence[Wheel]) -> str:
    """`paddock-gateway 0.1.0`, of the first of them."""
    name, version, *_ = parse_wheel_filename(wheels[0].name)
    return f"{name} {version}"

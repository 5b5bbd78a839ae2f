"""The vocabulary: what one thing on a host is to be.

A kind of resource is two files and a name in MODULES. `<module>.py` says who it is, how it is to be, what the probe asks, how the answer
reads, how it lands, how it leaves and how it is shown; `<module>.sh` has the shell functions for that. tests/unit/resources walks MODULES
and fails for a kind that lacks a part.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from resources.base import OnDisk, Owned, Resource, ResourceError, digest, expand, lines_of, of_kind
from resources.disk import UNOPENED, Directory, File, Link
from resources.environment import as_unit
from resources.line import Line
from resources.localimage import LocalImage
from resources.model import ModelFile
from resources.package import Package
from resources.port import Port
from resources.release import Release, Releases, on_trial
from resources.service import Service
from resources.speed import SPEEDS, Reached, Speed, expected, note_sh, reached_of
from resources.stack import ENGINE, IMAGE, Container, Image, Stack, Volume
from resources.user import User
from resources.venv import Venv, Wheel

__all__ = [
    "ENGINE",
    "IMAGE",
    "SPEEDS",
    "UNOPENED",
    "Container",
    "Directory",
    "File",
    "Image",
    "Line",
    "Link",
    "LocalImage",
    "ModelFile",
    "OnDisk",
    "Owned",
    "Package",
    "Port",
    "Reached",
    "Release",
    "Releases",
    "Resource",
    "ResourceError",
    "Service",
    "Speed",
    "Stack",
    "User",
    "Venv",
    "Volume",
    "Wheel",
    "as_unit",
    "digest",
    "expand",
    "expected",
    "kind_of",
    "kinds",
    "lines_of",
    "note_sh",
    "of_kind",
    "on_trial",
    "reached_of",
    "scripts",
]

MODULES = ["package", "user", "disk", "line", "release", "venv", "model", "port", "localimage", "service", "stack"]
"""Where the kinds stand, in the order in which a host takes them on."""


@cache
def kinds() -> tuple[type[Resource], ...]:
    """Every kind, in the order in which a host takes them on."""
    return tuple(kind for module in MODULES for kind in kinds_in(module))


def kinds_in(module: str) -> tuple[type[Resource], ...]:
    """The kinds that one module brings."""
    found = import_module(f"resources.{module}")
    classes = (each for each in vars(found).values() if isinstance(each, type) and issubclass(each, Resource))
    return tuple(each for each in classes if each.__module__ == found.__name__ and each.kind)


@cache
def kind_of(name: str) -> type[Resource] | None:
    """The kind of an id (`file:/etc/motd`); None for one that this version of Paddock does not know."""
    return next((each for each in kinds() if each.kind == name), None)


@cache
def scripts() -> str:
    """The shell functions of all kinds, what they share first."""
    names = ("manager", "base", "kept", "guard", "taken_back", "history", "lease", "speed")
    shared = (Path(__file__).with_name(f"{name}.sh") for name in names)
    files = (Path(str(import_module(f"resources.{module}").__file__)).with_suffix(".sh") for module in MODULES)
    return "\n".join(file.read_text(encoding="utf-8") for file in (*shared, *files))

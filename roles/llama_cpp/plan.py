"""llama.cpp on a host: one release that fits its hardware, and `current`, which says which release serves."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.context import Context
from inventory.errors import PaddockError
from inventory.schema import Fleet, Host
from roles.llama_cpp.releases import HOME, TARGETS
from roles.llama_cpp.settings import LlamaCppSettings
from roles.resources import Directory, Package, Release, Resource

TO_BE_DETECTED = "to-be-detected"


def plan(host: Host, settings: LlamaCppSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    for package in _compiles_with(host, context):
        yield Package(package)
    if not settings.serve:
        return
    for path in ("/opt/paddock", HOME, f"{HOME}/releases"):
        yield Directory(path)
    found = context.releases.get(host.name) or _undetected(settings)
    if isinstance(found, PaddockError):
        raise found
    for package in (*found.runtime_packages, "curl"):  # the gate asks with curl
        yield Package(package)
    yield found


def _compiles_with(host: Host, context: Context) -> list[str]:
    """What the host needs to build what it is to build, for itself and for others."""
    built = [each for each in context.releases.values() if isinstance(each, Release) and each.builder == host.name]
    return list(dict.fromkeys(package for release in built for package in release.packages))


def _undetected(settings: LlamaCppSettings) -> Release:
    label = settings.source.label
    path = f"{HOME}/releases/{label}-{TO_BE_DETECTED}"
    return Release(path, f"{HOME}/current", label, TO_BE_DETECTED, settings.source.identity, options=(), targets=TARGETS, packages=())

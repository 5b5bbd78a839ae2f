"""llama.cpp on a host: one release that fits its hardware, and `current`, which says which release serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, Package, Release, Releases, Resource
from roles.llama_cpp.recipe import ACCOUNT, CACHE
from roles.llama_cpp.releases import HOME, TARGETS
from roles.llama_cpp.settings import LlamaCppSettings

TO_BE_DETECTED = "to-be-detected"


def plan(host: Host, settings: LlamaCppSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    # None of it is needed but where there is something to compile (control/deployment/builds.py).
    for package in _compiles_with(host, knowledge):
        yield Package(package, needed=False)
    if knowledge.compiled.get(host.name):
        yield replace(ACCOUNT, needed=False)
        yield Directory(CACHE, data=True)
    if not settings.serve:
        return
    for path in ("/opt/paddock", HOME):
        yield Directory(path)
    yield Releases(f"{HOME}/releases", settings.keep.releases, settings.keep.disk_mib)
    found = knowledge.releases.get(host.name) or _undetected(settings)
    if isinstance(found, PaddockError):
        raise found
    for package in (*found.runtime_packages, "curl"):  # the gate asks with curl
        yield Package(package)
    yield found


def _compiles_with(host: Host, knowledge: Knowledge) -> list[str]:
    """What the host needs to build what it is to build, for itself and for others, beside what it serves with."""
    own = knowledge.releases.get(host.name)
    there = own.runtime_packages if isinstance(own, Release) else ()
    wanted = dict.fromkeys(package for release in knowledge.compiled.get(host.name, ()) for package in release.packages)
    return [package for package in wanted if package not in there]


def _undetected(settings: LlamaCppSettings) -> Release:
    label = settings.source.label
    path = f"{HOME}/releases/{label}-{TO_BE_DETECTED}"
    return Release(path, f"{HOME}/current", label, TO_BE_DETECTED, settings.source.identity, options=(), targets=TARGETS, packages=())

"""llama.cpp on a host: one release, built for this host's processor, and `current`, which says which release serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from inventory.context import Context
from inventory.hardware import Hardware
from inventory.schema import Fleet, Host
from roles.llama_cpp.profile import RUNTIME_PACKAGES, profile
from roles.llama_cpp.settings import LlamaCppSettings
from roles.resources import Directory, Package, Release, Resource

HOME = "/opt/paddock/llama.cpp"
TARGETS = ("llama-server", "llama-bench")
TO_BE_DETECTED = "to-be-detected"

RECIPE = 1
"""What is done with the options: a change that makes another result out of the same options counts this up."""


def plan(host: Host, settings: LlamaCppSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    for path in ("/opt/paddock", HOME, f"{HOME}/releases"):
        yield Directory(path)
    hardware, source = context.hardware.get(host.name), identity(settings, context)
    found = release(settings, hardware, source) if hardware and source else _undetected(settings)
    for package in (*RUNTIME_PACKAGES, *found.packages):
        yield Package(package)
    yield found


def identity(settings: LlamaCppSettings, context: Context) -> str | None:
    """What tells one source from another; None where a local tree has not been read yet."""
    if not settings.source.path:
        return settings.source.identity
    tree = context.sources.get(settings.source.path)
    return f"tree {tree}" if tree else None


def release(settings: LlamaCppSettings, hardware: Hardware, source: str) -> Release:
    """The release that fits the hardware. Raises PaddockError where none can."""
    label, found = settings.source.label, profile(hardware, settings.options)
    options = (*found.options, ("LLAMA_BUILD_COMMIT", label), ("LLAMA_BUILD_NUMBER", "0"))
    inputs = [RECIPE, source, options, TARGETS, hardware.architecture, hardware.distribution]
    fingerprint = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    return Release(
        path=f"{HOME}/releases/{label}-{fingerprint[:12]}",
        current=f"{HOME}/current",
        version=label,
        fingerprint=fingerprint,
        source=source,
        options=options,
        targets=TARGETS,
        packages=found.packages,
        reasons=found.reasons,
        jobs=settings.jobs or 0,
    )


def _undetected(settings: LlamaCppSettings) -> Release:
    label = settings.source.label
    path = f"{HOME}/releases/{label}-{TO_BE_DETECTED}"
    return Release(path, f"{HOME}/current", label, TO_BE_DETECTED, settings.source.identity, options=(), targets=TARGETS, packages=())

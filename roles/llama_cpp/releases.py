"""Which release each host of a fleet is to serve, and who builds it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Artifact
from inventory.source_lock import unknown
from resources import Release
from roles.llama_cpp import packages
from roles.llama_cpp.cuda import kv_pairs
from roles.llama_cpp.profile import Profile, profile
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_cpp.toolchain import Toolchain, jobs, toolchain

HOME = "/opt/paddock/llama.cpp"
TARGETS = ("llama-server", "llama-bench")
RPC_PROGRAM = "ggml-rpc-server"
"""What computes for other hosts (tools/rpc). Older trees call it rpc-server, and have no such target."""

RECIPE = 2
"""What is done with the options: a change that makes another result out of the same options counts this up."""


def releases(
    fleet: Fleet, hardware: Mapping[str, Hardware], sources: Mapping[str, str], artifacts: Iterable[Artifact] = ()
) -> dict[str, Release | PaddockError]:
    """Host → its release, or why there can be none. Left out is a host of which, or of whose builder or source, nothing is known yet.

    `sources` has the digest of each local source tree. Hosts that need just the same release have one builder: who is named as such,
    else the first of them. Where the very release is not there yet, an artifact that was built elsewhere of the same source with the
    same options is taken, if the host's C library is new enough for it. One whose archive is gone counts too, after those that are here:
    hosts that serve it keep it.
    """
    found: dict[str, Release | PaddockError] = {}
    builders: dict[str, str] = {}
    by_key: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        by_key.setdefault(artifact.key, []).append(artifact)
    for host in fleet.hosts_with("llama_cpp"):
        settings = fleet.role(host.name, "llama_cpp", LlamaCppSettings)
        assert settings
        own, builder = hardware.get(host.name), hardware.get(settings.builder or host.name)
        if settings.source.unpinned:
            found[host.name] = PaddockError(f"roles.llama_cpp.source: {unknown(settings.source.unpinned)}")
            continue
        source = identity(settings, sources)
        if not settings.serve or not own or not builder or not source:
            continue
        try:
            rpc = fleet.is_rpc_end(host.name)
            fits = profile(own, settings, kv_pairs(fleet.presets(host.name)), rpc=rpc)
            targets = tuple(dict.fromkeys((*TARGETS, *((RPC_PROGRAM,) if rpc else ()), *settings.programs)))
            release = _release(host.name, settings, source, fits, targets, own, builder, by_key)
        except PaddockError as error:
            found[host.name] = error
            continue
        if settings.builder is None and not release.downloads:
            release = replace(release, builder=builders.setdefault(release.fingerprint, release.builder))
        found[host.name] = release
    return found | dict(_downloaded_once(found, hardware))


def _downloaded_once(found: Mapping[str, Release | PaddockError], hardware: Mapping[str, Hardware]) -> Iterator[tuple[str, Release]]:
    """Packages come from one host, the first of those with the newest C library: an older distribution does not have them."""
    packaged = {host: each for host, each in found.items() if isinstance(each, Release) and each.downloads and each.builder}
    for host, release in packaged.items():
        same = [name for name, each in packaged.items() if each.fingerprint == release.fingerprint]
        yield host, replace(release, builder=max(same, key=lambda name: version_of(hardware[name].libc)))


def identity(settings: LlamaCppSettings, sources: Mapping[str, str]) -> str | None:
    """What tells one source from another; None where a local tree has not been read yet."""
    if not settings.source.path:
        return settings.source.identity
    tree = sources.get(settings.source.path)
    return f"tree {tree}" if tree else None


def _release(
    host: str,
    settings: LlamaCppSettings,
    source: str,
    fits: Profile,
    targets: tuple[str, ...],
    own: Hardware,
    builder: Hardware,
    artifacts: Mapping[str, Sequence[Artifact]],
) -> Release:
    label, packaged = settings.source.label, bool(settings.source.packages)
    key = _digest(RECIPE, source, settings.has_page, fits.options, targets, own.architecture)
    at_hand = {each.fingerprint: each for each in artifacts.get(key, ()) if runs_with(each, own)}
    tools, exact = Toolchain(), ""
    try:
        if settings.builder is False:
            raise PaddockError("roles.llama_cpp.builder: nothing is to be compiled for this host")
        tools = packages.TOOLCHAIN if packaged else toolchain(fits, builder, own)
        # What packages hold is the same wherever they are unpacked.
        exact = key if packaged else _digest(key, tools.options, tools.suite or builder.distribution, _system(own))
        if packaged and exact in {each.fingerprint for each in artifacts.get(key, ())} - set(at_hand):
            raise PaddockError("roles.llama_cpp.source: these packages are of a newer distribution")
    except PaddockError as error:
        if not at_hand:
            close = "; ".join(f"{each.name} needs glibc {each.libc}, the host has {own.libc}" for each in artifacts.get(key, ()))
            words = f"{error}, and no artifact fits it{f' ({close})' if close else ''}"
            raise PaddockError(f"{words}: `paddock artifacts import` one of {label} with the key {key[:12]}") from None
    fingerprint = exact
    if at_hand and exact not in at_hand:
        fingerprint = max(at_hand, key=lambda each: (at_hand[each].archived, version_of(at_hand[each].libc), each))
    made = at_hand.get(fingerprint)
    return Release(
        path=f"{HOME}/releases/{label}-{fingerprint[:12]}",
        current=f"{HOME}/current",
        version=label,
        fingerprint=fingerprint,
        key=key,
        source=source,
        profile=fits.name,
        backend=fits.backend,
        options=fits.options if packaged else (*fits.options, *tools.options, ("LLAMA_BUILD_COMMIT", label), ("LLAMA_BUILD_NUMBER", "0")),
        targets=targets,
        packages=tools.packages,
        runtime_packages=fits.runtime_packages,
        environment=fits.environment,
        devices=fits.devices,
        cpu_features=fits.cpu_features,
        reasons=fits.reasons,
        downloads=packages.downloads(settings.source, fits.backend, targets, rpc=("GGML_RPC", "ON") in fits.options) if packaged else (),
        jobs=0 if packaged else jobs(builder, settings.jobs, fits.backend),
        builder=(settings.builder or host) if fingerprint == exact else "",
        made="" if made is None else "archived" if made.archived else "recorded",
        triplet=tools.triplet,
        suite=tools.suite,
        inside=tools.inside,
        ui=settings.has_page,
        manifest=made.manifest if made else "",
        imported=made.imported if made else "",
    )


def _system(host: Hardware) -> str:
    """`debian 13`. A release without a number has its C library beside its name, which it keeps while that changes."""
    return host.distribution if re.search(r"[0-9]", host.distribution) else f"{host.distribution} {host.libc}"


def runs_with(artifact: Artifact, host: Hardware) -> bool:
    """Whether the host's C library is as new as the artifact needs."""
    return version_of(host.libc) >= version_of(artifact.libc)


def version_of(text: str) -> tuple[int, ...]:
    """`2.36` → (2, 36)"""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _digest(*inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

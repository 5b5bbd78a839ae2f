"""What plans may know beyond the inventory, out of what the control machine keeps. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from control.llama_cpp.artifacts import Artifacts
from control.llama_cpp.options import options_by_host
from control.llama_cpp.releases import releases_of
from control.models.shapes import known
from control.pki.authority import Authority
from control.pki.revocations import revocations
from control.state.fleet import FleetState, read
from control.state.secrets import Secrets, Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge, ModelDigest
from inventory.model_sources import ModelSource
from inventory.schema import ModelEntry
from resources import Wheel

TO_COME = Certificate(TO_BE_ISSUED)
"""What a plan knows of a certificate that `up` issues before it lands anything."""


def knowledge_for(fleet: Fleet, state: FleetState, *, now: datetime, vault: Vault | None = None) -> Knowledge:
    """All that is known at `now` without asking a host. Raises PaddockError where what is kept cannot be read or does not fit."""
    vault = vault or Vault(state)
    authority = Authority(state, vault)
    ca, servers, clients = authority.current(fleet, now)
    revoked = authority.revoked(fleet)
    hardware = {host: found for host in fleet.hosts if (found := state.hardware(host))}
    return Knowledge(
        hardware=hardware,
        ca=ca or TO_BE_ISSUED,
        host_ca=authority.host_bundle() or TO_BE_ISSUED,
        servers=servers,
        clients={name: clients.get(name, TO_COME) for name in fleet.clients if name not in revoked},
        earlier=authority.earlier(fleet, now),
        revocations=revocations(authority.leaves).text,
        identities=authority.identities(fleet, now),
        hosts=authority.hosts(fleet, now),
        earlier_hosts=authority.earlier_hosts(fleet, now),
        secrets=Secrets(vault),
        roots={path: _root(path, state.inventory.parent) for path in _root_paths(fleet)},
        models={name: _digest_of(entry) for name, entry in fleet.models.items()},
        releases=releases_of(fleet, hardware, state.inventory.parent, Artifacts(state).recorded()),
        shapes=known(fleet, state.inventory),
        options=options_by_host(fleet, state.inventory.parent),
        wheels={(host.name, project): _wheels(project, hardware[host.name]) for host, project in _programs(fleet) if host.name in hardware},
        services=services(*_services(fleet)),
    )


def knowledge_of_memory(fleet: Fleet, state: FleetState) -> Knowledge:
    """What decides whether models can be loaded, and fit; no secret is among it. Raises PaddockError where what is kept cannot be read."""
    hardware = {host: found for host in fleet.hosts if (found := state.hardware(host))}
    return Knowledge(
        hardware=hardware,
        releases=releases_of(fleet, hardware, state.inventory.parent, Artifacts(state).recorded()),
        shapes=known(fleet, state.inventory),
        options=options_by_host(fleet, state.inventory.parent),
    )


def knowledge_of_inventory(fleet: Fleet, beside: Path) -> Knowledge:
    """What the inventory says, and the files that it names in the directory `beside` which it lies: nothing of what is kept."""
    with_roots = {}
    for path in _root_paths(fleet):
        with suppress(PaddockError):  # what cannot be read is as good as missing
            with_roots[path] = _root(path, beside)
    return Knowledge(
        clients=dict.fromkeys(fleet.clients, TO_COME),
        identities=dict.fromkeys(fleet.clients, TO_COME),
        roots=with_roots,
        models={name: _digest_of(entry) for name, entry in fleet.models.items()},
        options=options_by_host(fleet, beside),
        services=services(*_services(fleet)),
    )


def services(*names: str) -> dict[str, dict[str, str]]:
    """The programs and packages in services/ of these names, as far as there are any: a program has the name of its role."""
    there = files("services")
    found = (name for name in dict.fromkeys(names) if any(there.joinpath(name, each).is_file() for each in ("__main__.py", "__init__.py")))
    return {name: _program(name) for name in found}


def _services(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for role, settings in host.carried.items():
            yield from filter(None, (role, settings.modules()))


def _program(service: str) -> dict[str, str]:
    found = sorted(files("services").joinpath(service).iterdir(), key=lambda each: each.name)
    return {each.name: each.read_text(encoding="utf-8") for each in found if each.name.endswith((".py", ".json"))}


def programs_of(host: Host) -> list[str]:
    """The projects of services/ that a host runs from wheels."""
    return [project for settings in host.carried.values() if (project := settings.program())]


def _programs(fleet: Fleet) -> Iterator[tuple[Host, str]]:
    yield from ((host, project) for host in fleet.hosts.values() for project in programs_of(host))


def _wheels(project: str, hardware: Hardware) -> tuple[Wheel, ...] | PaddockError:
    from control.fetching.wheels import wheels_of

    try:
        return wheels_of(project, hardware)
    except PaddockError as error:
        return error


def _digest_of(entry: ModelEntry) -> ModelDigest:
    if isinstance(entry.source, ModelSource):
        first = next(iter(entry.source.digests), None)
        return ModelDigest(first.sha256, first.size or 0) if first else ModelDigest("", 0)
    from control.models.local import tiny_digest

    return tiny_digest()


def _root_paths(fleet: Fleet) -> list[str]:
    """The files with the roots of private ACME authorities, as the inventory has them."""
    return [path for entrance in fleet.entrances() if entrance.site.acme and (path := entrance.site.acme.root)]


def _root(path: str, beside: Path) -> str:
    """One of them; empty where it is not there, which no plan takes."""
    return (read(beside / Path(path).expanduser()) or b"").decode(errors="replace")

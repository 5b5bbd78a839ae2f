"""What plans may know beyond the inventory, out of what the control machine keeps. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from control.artifacts import Artifacts
from control.options import options_by_host
from control.pki import Authority
from control.secrets import Secrets, Vault
from control.shapes import known
from control.state import FleetState, read
from inventory.context import TO_BE_ISSUED, Certificate, Context, ModelDigest
from inventory.schema import Fleet, ModelEntry, ModelSource
from roles.llama_cpp.releases import releases
from roles.llama_cpp.settings import LlamaCppSettings

TO_COME = Certificate(TO_BE_ISSUED)
"""What a plan knows of a certificate that `up` issues before it lands anything."""


def context_for(fleet: Fleet, state: FleetState, *, now: datetime) -> Context:
    """All that is known at `now` without asking a host. Raises PaddockError where what is kept cannot be read or does not fit."""
    vault = Vault(state)
    authority = Authority(state, vault)
    ca, servers, clients = authority.current(fleet, now)
    revoked = authority.revoked(fleet)
    hardware = {host: found for host in fleet.hosts if (found := state.hardware(host))}
    return Context(
        hardware=hardware,
        ca=ca or TO_BE_ISSUED,
        servers=servers,
        clients={name: clients.get(name, TO_COME) for name in fleet.clients if name not in revoked},
        earlier=authority.earlier(fleet, now),
        identities=authority.identities(fleet, now),
        secrets=Secrets(vault),
        roots=dict(_roots(fleet, state.inventory.parent)),
        models={name: _digest_of(entry) for name, entry in fleet.models.items()},
        releases=releases(fleet, hardware, dict(_sources(fleet, state.inventory.parent)), Artifacts(state).all()),
        shapes=known(fleet, state.inventory),
        options=options_by_host(fleet, state.inventory.parent),
    )


def _digest_of(entry: ModelEntry) -> ModelDigest:
    if isinstance(entry.source, ModelSource):
        first = next(iter(entry.source.digests), None)
        return ModelDigest(first.sha256, first.size or 0) if first else ModelDigest("", 0)
    from control.models import tiny_digest

    return tiny_digest()


def _roots(fleet: Fleet, beside: Path) -> Iterator[tuple[str, str]]:
    """The root of each private ACME authority, by its path as the inventory has it; one that is not there is empty, which no plan takes."""
    for entrance in fleet.entrances():
        if entrance.site.acme and (path := entrance.site.acme.root):
            text = read(beside / Path(path).expanduser()) or b""
            yield path, text.decode(errors="replace")


def _sources(fleet: Fleet, beside: Path) -> Iterator[tuple[str, str]]:
    """The digest of each source tree on this machine, by its path as the inventory has it; a relative one starts at the inventory."""
    paths = set()
    for host in fleet.hosts_with("llama_cpp"):
        settings = fleet.role(host.name, "llama_cpp", LlamaCppSettings)
        if settings and settings.source.path:
            paths.add(settings.source.path)
    if paths:
        from control.sources import tree_digest

        for path in sorted(paths):
            yield path, tree_digest(beside / Path(path).expanduser())

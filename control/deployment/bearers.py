"""What there is to do on a host, as far as certificates go: a client is admitted or thrown out without waiting for anything else."""

from __future__ import annotations

import re
from dataclasses import replace

from control.deployment.work import Work
from inventory.fleet import Fleet, Host
from resources.drift import Drift

BEARERS = {
    "caddy": re.compile(r"file:/etc/caddy/paddock/.+"),
    "client": re.compile(
        r"(file|directory):/etc/paddock/clients/.+"
        r"|(service:|(file|directory):/etc/systemd/system/)paddock-(bridge|browsers|profiles|seat)-.+"
    ),
    "rpc_worker": re.compile(r"(file|directory):/etc/paddock/rpc-worker/.+"),
}
"""The roles that lay certificates on hosts, and what leaves at once with a client that is thrown out: of a reverse proxy the certificates
that it lets in; of an account its certificate and key, and the programs that show them."""

PARTS = {
    "llama_server": re.compile(r"(file|directory):/etc/paddock/(rpc|http)-tunnel/.+|service:paddock-(rpc|http)-tunnel\.service"),
    "admin": re.compile(r"(file|directory):/etc/paddock/admin-tunnel/.+|service:paddock-admin-tunnel\.service"),
}
"""The roles of which a part alone lays certificates: what else they have to do waits for the next `up`."""

TUNNELS = re.compile(r"(file|directory):/etc/paddock/[a-z-]+-tunnel/.+|(service:|file:/etc/systemd/system/)paddock-[a-z-]+-tunnel\b.*")
"""What hosts show each other: it changes at both ends of a tunnel, or at neither."""

REVOKED = "/etc/caddy/paddock/revoked"
"""Where a reverse proxy's host has who was thrown out: control/pki/revocations.py."""


OF_CLIENTS = ("caddy", "client")
"""The roles that let clients in, or carry what they show."""


def bearing(fleet: Fleet, *, of_clients: bool = False) -> tuple[Host, ...]:
    """The hosts that carry certificates; `of_clients` those alone that a client's certificate matters to."""
    roles = OF_CLIENTS if of_clients else BEARERS
    ends = () if of_clients else fleet.tunnel_ends
    return tuple(each for each in fleet.hosts.values() if each.name in ends or any(role in each.carried for role in roles))


def certificates_alone(work: Work, *, of_clients: bool = False) -> Work:
    """The work of the roles that lay certificates, where they have been laid before, and none besides; `of_clients` without what changes
    of tunnels between hosts."""
    there = {role for role in BEARERS if any(each.id in work.actual.manifest for each in work.plan.get(role, ()))}
    changes = tuple(
        change
        for change in work.drift.changes
        if (
            change.role in there
            or (change.role in PARTS and change.id in work.actual.manifest and PARTS[change.role].fullmatch(change.id))
            or (change.action == "remove" and any(BEARERS[role].fullmatch(change.id) for role in there))
        )
        and not (of_clients and change.id in work.actual.manifest and TUNNELS.fullmatch(change.id))
    )
    gone = {change.id for change in changes if change.action == "remove"}
    manifest = {
        **{name: origin for name, origin in work.actual.manifest.items() if name not in gone},
        **{change.id: work.drift.manifest[change.id] for change in changes if change.id in work.drift.manifest},
    }
    claims = {**work.actual.manifest, **manifest}
    drift = Drift(changes, work.drift.left, manifest, claims, recorded=manifest == work.actual.manifest, partial=True)
    return replace(work, drift=drift, needs={}, alternatives={})

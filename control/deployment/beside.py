"""What somebody else has on a host that leaves no place for what the plan puts there, or keeps callers away from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from control.deployment.work import Work
from inventory.neighbours import InputChain
from resources import Port, Service, User, of_kind

UNKNOWN = ("", "?")
"""What `ss` has of a process that it does not know."""


def taken(work: Work) -> Iterator[str]:
    """Why the plan cannot be there, a line each, before anything is touched."""
    yield from _ports(work)
    for user in of_kind(work.resources, User):
        found, wanted = work.actual.resources.get(user.id), user.desired
        if found and wanted and user.id not in work.actual.manifest and any(found[each] != wanted[each] for each in ("home", "shell")):
            words = f"there is an account {user.name} that is not Paddock's (home {found['home']}, shell {found['shell']})"
            yield f"{words}: rename it (usermod --login), or set its home to {user.home} and its shell to {wanted['shell']}"


def _ports(work: Work) -> Iterator[str]:
    """On which port of the plan something listens that neither the plan nor an earlier one has put there."""
    manifest = {name.removeprefix("service:").rpartition("/")[2] for name in work.actual.manifest if name.startswith("service:")}
    known = manifest | {service.name for service in of_kind(work.resources, Service)}
    # What a socket unit has no more, its service may still have.
    known |= {f"{name.removesuffix('.socket')}.service" for name in known if name.endswith(".socket")}
    for role, resources in work.plan.items():
        for port in of_kind(resources, Port):
            holders = work.actual.resources.get(port.id, {}).get("unit", port.unit).split(" ")
            for holder in holders:
                if holder not in known and holder != port.unit:
                    who = "another process" if holder in UNKNOWN else holder
                    words = f"port {port.number}/{port.protocol}, which {port.unit} is to listen on, is taken by {who}"
                    yield f"{words}: stop it, or set another port in roles.{role}"


def closed(work: Work, chains: Iterable[InputChain]) -> Iterator[str]:
    """Which chains of nftables may keep callers from the ports of the plan, a line each."""
    ports = [each for each in of_kind(work.resources, Port) if any(not _is_loopback(address) for address in each.addresses)]
    for chain in chains:
        named = [range(int(first), int(last or first) + 1) for first, _, last in (each.partition("-") for each in chain.ports)]
        if shut := [f"{each.number}/{each.protocol}" for each in ports if not any(each.number in some for some in named)]:
            yield f"nftables' chain {chain.name} drops what no rule accepts, and no rule names {', '.join(shut)}: let callers through there"


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"

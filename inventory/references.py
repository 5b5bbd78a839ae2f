"""What only shows when hosts, models and clients are seen together: names that lead nowhere, and two that claim one thing.

What roles refer to they check themselves (`roles.role.RoleSettings`); here is the walk, and what clashes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from inventory.marks import Entry, Scalar, Sequence, child, followed, mapping_at
from inventory.merge import Draft
from inventory.problems import Place, Problem
from inventory.schema import BASTION, Client
from roles import settings_of
from roles.references import Finding, Whole
from roles.role import RoleSettings, address_of, port_of
from roles.wording import did_you_mean, quoted


@dataclass(frozen=True)
class Carrier:
    """A host and its roles; one whose settings are malformed, which is told elsewhere, is None."""

    draft: Draft
    roles: Mapping[str, RoleSettings | None]

    def key(self, *path: str) -> Place:
        """The place of the last key that there is on a path."""
        return self._last(path).key

    def value(self, *path: str) -> Place:
        """The place of what stands there."""
        return self._last(path).node.place

    def _last(self, path: tuple[str, ...]) -> Entry:
        return followed(Entry(self.draft.key, self.draft.node), *path)


def problems_between(
    carriers: Mapping[str, Carrier], groups: Iterable[str], models: Mapping[str, bool], clients: Mapping[str, Entry], domain: str
) -> Iterator[Problem]:
    """`models` says of each whether its file lies on its host already. A place that hosts share is told of once, for the first of them."""
    first: dict[Place, str] = {}
    for host, problem in _problems_by_host(carriers, groups, models, clients, domain):
        if first.setdefault(problem.place, host) == host:
            yield problem


def _problems_by_host(
    carriers: Mapping[str, Carrier], groups: Iterable[str], models: Mapping[str, bool], clients: Mapping[str, Entry], domain: str
) -> Iterator[tuple[str, Problem]]:
    roles = {name: each.roles for name, each in carriers.items()}
    whole = Whole(roles, models, tuple(clients), domain, dict(_days(clients)), _members(carriers, groups))
    seen: set[tuple[Place, int, Finding]] = set()  # by the id of what a group says of a role: its hosts find the same there
    for name, carrier in carriers.items():
        for role, settings in carrier.roles.items():
            for companion, words in settings_of(role).companions(name).items():
                if companion not in carrier.roles:
                    yield name, Problem(carrier.key("roles", role), words)
            key, node = mapping_at(carrier.draft.node, "roles")[role]
            for found in settings.references(name, whole) if settings else ():
                if found.keys[:2] == ("roles", role):
                    if (key, id(node), found) in seen:
                        continue
                    seen.add((key, id(node), found))
                yield name, Problem(carrier.value(*found.keys) if found.of_value else carrier.key(*found.keys), found.words)
        yield from ((name, problem) for problem in _ports(name, carrier))
    yield from _addresses(carriers)
    yield from _bastions(carriers)


def problems_of_users(users: Entry | None, carriers: Mapping[str, Carrier], models: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with the users that are declared; `models` are the names by which the inventory calls its models."""
    said = mapping_at(users.node) if users else {}
    if not users or not said:
        return
    gateways = [settings for each in carriers.values() for role, settings in each.roles.items() if settings_of(role).admits_users]
    if not gateways:
        yield Problem(users.key, "no host has a gateway for them: add the role gateway to one, or leave users out")
        return
    if None in gateways:  # malformed, and told elsewhere: which names it gives to models is not known
        return
    carried = [settings for each in carriers.values() for settings in each.roles.values() if settings]
    known = {*models, *(name for each in carried for name in each.public_models())}
    for entry in said.values():
        named = child(entry.node, "models")
        for item in named.node.items if named and isinstance(named.node, Sequence) else ():
            if isinstance(item, Scalar) and isinstance(item.value, str) and item.value not in known:
                hint = did_you_mean(item.value, known)
                yield Problem(item.place, f"no model is called {quoted(item.value)}{hint}: write a name or an alias from models")


def _members(carriers: Mapping[str, Carrier], groups: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """The hosts of each group, of which one may have none."""
    found: dict[str, list[str]] = {group: [] for group in groups}
    for host, carrier in carriers.items():
        for group in carrier.draft.groups:
            found[group].append(host)
    return {group: tuple(hosts) for group, hosts in found.items()}


def _days(clients: Mapping[str, Entry]) -> Iterator[tuple[str, int]]:
    """How long their certificates live; a number that is not well-formed is told elsewhere."""
    for name, entry in clients.items():
        days = child(entry.node, "days")
        value = days.node.value if days and isinstance(days.node, Scalar) else None
        yield name, value if type(value) is int and value > 0 else Client.model_fields["days"].default


def _ports(host: str, carrier: Carrier) -> Iterator[Problem]:
    """Two that listen do not share a port, unless each has an address of its own."""
    taken: dict[int, list[tuple[str, str]]] = {}
    for role, settings in carrier.roles.items():
        for endpoint in settings.endpoints() if settings else ():
            of_port = taken.setdefault(port_of(endpoint), [])
            for other, theirs in of_port:
                apart = role == other and settings and settings.listens_by_family and ("[" in endpoint) != ("[" in theirs)
                if not apart and _overlap(endpoint, theirs):
                    words = f"{role} cannot listen on {endpoint}: on {host}, {other} listens on {theirs}"
                    if role == other and settings:
                        words = f"two of {role} on {host} would listen on {theirs}: {settings.apart(endpoint)}"
                    yield Problem(_listening(carrier, role, endpoint), words)
                    break
            of_port.append((role, endpoint))


def _overlap(one: str, other: str) -> bool:
    """Of two with one port, whether they share an address."""
    addresses = {ipaddress.ip_address(address_of(one)), ipaddress.ip_address(address_of(other))}
    return len(addresses) == 1 or any(address.is_unspecified for address in addresses)


def _listening(carrier: Carrier, role: str, endpoint: str) -> Place:
    """Where the inventory says that a role listens there; the role itself where that is its default, or follows from another port."""
    own = mapping_at(carrier.draft.node, "roles", role)
    groups = (mapping_at(each.node, name) for each in own.values() for name in reversed(mapping_at(each.node)))
    for entry in (entry for each in (own, *groups) for entry in each.values()):
        for node in entry.node.items if isinstance(entry.node, Sequence) else (entry.node,):
            if isinstance(node, Scalar) and node.value == endpoint:
                return node.place
    return carrier.key("roles", role)


def _addresses(carriers: Mapping[str, Carrier]) -> Iterator[tuple[str, Problem]]:
    """Two hosts are two machines."""
    first: dict[str, str] = {}
    for name, carrier in carriers.items():
        entry = child(carrier.draft.node, "address")
        if entry is None or not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
            continue
        address = _normalised(entry.node.value)
        other = first.setdefault(address, name)
        if other != name:
            yield name, Problem(entry.node.place, f"{address} is host {quoted(other)} already: {quoted(name)} needs its own")


def _bastions(carriers: Mapping[str, Carrier]) -> Iterator[tuple[str, Problem]]:
    """A bare name is one of the fleet's, and no way leads back to where it began."""
    ways = {name: node for name, carrier in carriers.items() if (node := _via(carrier))}
    for name, node in ways.items():
        bastion = node.text
        if bastion in carriers:
            chain = [name]
            while chain[-1] in ways and chain.count(chain[-1]) == 1:
                chain.append(ways[chain[-1]].text)
            if chain[-1] == name:
                better = "give it `via: null`, or set via only on the hosts behind the bastion"
                words = better if len(chain) == 2 else "one of them is reached another way"
                yield name, Problem(node.place, f"{quoted(name)} would be reached through itself ({' via '.join(chain)}): {words}")
        elif BASTION.fullmatch(bastion) and not set(bastion) & set("@:["):
            better = f"for a machine that is not in the fleet write user@{bastion}, or {bastion}:22"
            yield name, Problem(node.place, f"no host is called {quoted(bastion)}{did_you_mean(bastion, carriers)}: {better}")


def _via(carrier: Carrier) -> Scalar | None:
    entry = child(carrier.draft.node, "via")
    return entry.node if entry and isinstance(entry.node, Scalar) and isinstance(entry.node.value, str) else None


def _normalised(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address

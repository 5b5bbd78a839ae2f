"""One mapping a host: ranges expanded, and what groups and defaults say put under what the host says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from inventory.marks import Entry, Mapping, Node, Scalar, Sequence, child, mapping_at, merged
from inventory.problems import Place, Problem
from inventory.ranges import RangeError, expanded, is_range
from roles.wording import did_you_mean, one_of, quoted

HOSTS = 16_384

HOST_SHAPE: dict[str, Any] = {"roles": {"*": {}}, "lab": {}}
SHAPE = {
    **{"defaults": HOST_SHAPE, "groups": {"*": HOST_SHAPE}, "hosts": {"*": HOST_SHAPE}},
    **{"models": {"*": {}}, "clients": {"*": {}}, "users": {"*": {}}},
}
"""Where something with settings may stand."""


@dataclass(frozen=True)
class Draft:
    """A host before anybody has looked whether it is well-formed. `key` is the place where it is named."""

    name: str
    groups: tuple[str, ...]
    key: Place
    node: Node


def filled(node: Node, shape: dict[str, Any] = SHAPE) -> Node:
    """The tree in which nothing after a key, such as `base:`, is that thing without settings of its own."""
    if isinstance(node, Scalar) and node.value is None:
        return Mapping(node.place, {})
    if not isinstance(node, Mapping):
        return node
    inner: dict[str, Any] = {key: shape.get(key, shape.get("*")) for key in node.entries}
    return replace(
        node,
        entries={
            key: entry if inner[key] is None else Entry(entry.key, filled(entry.node, inner[key])) for key, entry in node.entries.items()
        },
    )


def drafts(document: Node, problems: list[Problem]) -> dict[str, Draft]:
    """The hosts by name, each `defaults` < groups, in the order in which they stand in the file < the host itself."""
    described = _described(document, problems)
    defaults = child(document, "defaults")
    groups = mapping_at(document, "groups")
    belongs: dict[str, dict[str, None]] = {name: {} for name in described}
    for group, entry in groups.items():
        for name in _members(entry.node, described, problems):
            belongs[name][group] = None
    shared: dict[tuple[str, ...], Node] = {}
    found = {}
    for name, entry in described.items():
        own = tuple(belongs[name])
        if own not in shared:
            shared[own] = _layered(
                document, [*([defaults.node] if defaults else []), *(_without_members(groups[group].node) for group in own)]
            )
        found[name] = Draft(name, own, entry.key, merged(shared[own], entry.node))
    return found


def _layered(document: Node, layers: Iterable[Node]) -> Node:
    """What the hosts of the same groups have in common, each layer on those before it."""
    node: Node = Mapping(document.place, {})
    for layer in layers:
        node = merged(node, layer) if isinstance(layer, Mapping) else node
    return node


def _described(document: Node, problems: list[Problem]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for key, entry in mapping_at(document, "hosts").items():
        names = _expanded(key, entry.key, problems)
        for name, node in zip(names or (key,), _addressed(entry.node, len(names), problems), strict=True):
            if name in found:
                words = f"host {quoted(name)} is defined twice, first on line {found[name].key.line}"
                problems.append(Problem(entry.key, words))
            elif len(found) == HOSTS:
                problems.append(Problem(entry.key, f"more than {HOSTS} hosts in one inventory"))
                return found
            else:
                found[name] = Entry(entry.key, node)
    return found


def _expanded(text: str, place: Place, problems: list[Problem]) -> tuple[str, ...]:
    """The names that a text stands for; none where that cannot be told."""
    try:
        return expanded(text)
    except RangeError as error:
        problems.append(Problem(place, str(error)))
        return ()


def _addressed(node: Node, count: int, problems: list[Problem]) -> Iterator[Node]:
    """The host's node once for each of `count` hosts, with an address of its own; once with any of them where 0 says that nobody knows."""
    entry = child(node, "address")
    address = entry.node if entry else None
    if entry is None or not isinstance(node, Mapping) or not isinstance(address, Scalar) or not isinstance(address.value, str):
        yield from [node] * max(count, 1)
        return
    each = _expanded(address.text, address.place, problems)
    if not each or not count:
        each = (each or (address.text,))[:1] * max(count, 1)
    elif len(each) != count:
        hosts = f"{count} hosts" if count > 1 else "one host"
        better = "write a range such as 192.0.2.[11:19], of the same length" if count > 1 else "write one address"
        problems.append(Problem(address.place, f"{quoted(address.text)} is {_addresses(len(each))} for {hosts}: {better}"))
        each = (address.text,) * count
    elif not is_range(address.text):
        yield node
        return
    for text in each:
        own = Entry(entry.key, replace(address, value=text, text=text))
        yield replace(node, entries={**node.entries, "address": own})


def _addresses(count: int) -> str:
    return f"{count} addresses" if count > 1 else "one address"


def _members(group: Node, hosts: dict[str, Entry], problems: list[Problem]) -> Iterator[str]:
    entry = child(group, "hosts")
    for item in entry.node.items if entry and isinstance(entry.node, Sequence) else ():
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            continue
        names = _expanded(item.text, item.place, problems)
        yield from (name for name in names if name in hosts)
        unknown = [name for name in names if name not in hosts]
        if unknown:
            some = one_of([quoted(name) for name in unknown[:3]])
            problems.append(Problem(item.place, f"no host is called {some}{did_you_mean(unknown[0], hosts)}"))


def _without_members(group: Node) -> Node:
    if not isinstance(group, Mapping):
        return group
    return replace(group, entries={key: entry for key, entry in group.entries.items() if key != "hosts"})

"""An inventory as a tree in which every key and value knows where it was written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from inventory.problems import Place


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; `text` is how it is written."""

    place: Place
    value: str | int | float | bool | None
    text: str
    size: int = 1
    height: int = 0


class Entry(NamedTuple):
    """A key's place, and what stands behind it."""

    key: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    place: Place
    entries: dict[str, Entry]
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple[Node, ...]
    size: int = 1
    height: int = 0


Node: TypeAlias = Scalar | Mapping | Sequence


def plain(node: Node) -> Any:
    """The bare data, with tuples for sequences."""
    if isinstance(node, Mapping):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    return tuple(map(plain, node.items)) if isinstance(node, Sequence) else node.value


def merged(under: Node, over: Node) -> Node:
    """`over` laid on `under`: mappings merge deeply, anything else is replaced. Each key and value keeps its place."""
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    entries = dict(under.entries)
    for key, entry in over.entries.items():
        entries[key] = Entry(entry.key, merged(entries[key].node, entry.node)) if key in entries else entry
    return replace(over, entries=entries)


def replaced(node: Node, path: tuple[str, ...], new: Node) -> Node:
    """The tree with another node behind a path of keys and numbers, all of which are there."""
    if not path:
        return new
    if isinstance(node, Mapping):
        entry = node.entries[path[0]]
        return replace(node, entries={**node.entries, path[0]: Entry(entry.key, replaced(entry.node, path[1:], new))})
    assert isinstance(node, Sequence)
    at = int(path[0])
    return replace(node, items=(*node.items[:at], replaced(node.items[at], path[1:], new), *node.items[at + 1 :]))


def child(node: Node | None, key: str) -> Entry | None:
    """What stands behind a mapping's key."""
    return node.entries.get(key) if isinstance(node, Mapping) else None


def followed(entry: Entry, *keys: str) -> Entry:
    """The last entry that there is on a path of keys, and of numbers of a list's items."""
    for key in keys:
        if isinstance(entry.node, Sequence) and key.isdigit() and int(key) < len(entry.node.items):
            item = entry.node.items[int(key)]
            entry = Entry(item.place, item)
        else:
            entry = child(entry.node, key) or entry
    return entry


def mapping_at(node: Node | None, *path: str) -> dict[str, Entry]:
    """The entries of the mapping behind a path of keys; none where there is no mapping."""
    for key in path:
        entry = child(node, key)
        node = entry.node if entry else None
    return node.entries if isinstance(node, Mapping) else {}

"""YAML read into a tree that remembers where everything stands.

Data only: no tags, no keys but text, no key twice, one document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from inventory.marks import Entry, Mapping, Node, Scalar, Sequence
from inventory.problems import Place, Problem
from inventory.scalars import as_read, meant, trap
from inventory.syntax import LINE_BREAK, LOADER, syntax_problem, tab_in
from roles.wording import UNSEEN, quoted

NODES = 500_000
DEPTH = 32

CONTROL = re.compile(rf"[\t\n]|{UNSEEN.pattern}")
"""What ends a line for some reader of a file, or would show a person another text than stands there."""


NAMES = {"\n": "a line break", "\t": "a tab", **dict.fromkeys(map(chr, (*range(9), *range(11, 32), 127)), "a control character")}


NO_TEXT = "a key has to be text, and "
"""What is said of a key in quotes goes before this: advice that is refused next is none."""


class Unreadable(Exception):
    """What nothing can be read after. `problems` has also what was found before."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def compose(text: str) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text and what is wrong in it short of its shape. Raises Unreadable."""
    composer = _Composer(text)
    try:
        return composer.document(), composer.problems
    except yaml.YAMLError as error:
        broken = syntax_problem(error, text)
        before = [each for each in composer.problems if each.place[:2] < broken.place[:2]]  # what follows may only follow from it
        raise Unreadable([*before, broken]) from None
    except _Stop as stop:
        raise Unreadable([*composer.problems, stop.problem]) from None


class _Stop(Exception):
    def __init__(self, place: Place, words: str) -> None:
        super().__init__(words)
        self.problem = Problem(place, words)


class _Composer:
    """Reads events, not PyYAML's nodes: those are made by recursion in C, which deep nesting crashes."""

    def __init__(self, text: str) -> None:
        self.lines = LINE_BREAK.split(text)
        self.events = self._events(LOADER(text))
        self.anchors: dict[str, Node | None] = {}
        self.problems: list[Problem] = []

    @staticmethod
    def _events(loader: Any) -> Iterator[Any]:
        while (event := loader.get_event()) is not None:
            yield event

    def document(self) -> Node:
        for event in self.events:
            if isinstance(event, yaml.StreamEndEvent):
                raise _Stop(Place(1, 1), "the file is empty: an inventory needs at least the keys fleet, domain and hosts")
            if isinstance(event, yaml.DocumentStartEvent):
                break
        root = self._node(next(self.events), ())
        if root.place.line > len(self.lines):  # nothing behind `---`
            root = replace(root, place=Place(len(self.lines), 1))
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _Stop(_place(event, ()), "a second YAML document begins here: an inventory is a single document")
        return root

    def _node(self, event: Any, path: tuple[str, ...], depth: int = 0) -> Node:
        place = _place(event, path)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), place, depth)
        if depth > DEPTH:
            raise _Stop(place, f"nested deeper than {DEPTH} levels")
        if event.anchor:
            self.anchors[event.anchor] = None  # until it is whole
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._complain(place, f"the tag {quoted(tag)} is not allowed in an inventory, which is data only: leave it out")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, depth)
        else:
            node = self._mapping(place, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, place: Place, depth: int) -> Node:
        if anchor not in self.anchors:
            raise _Stop(place, f"*{anchor} is undefined: there is no &{anchor} before it")
        node = self.anchors[anchor]
        if node is None:
            raise _Stop(place, f"*{anchor} is inside of &{anchor}: an endless loop")
        if depth + node.height > DEPTH:
            raise _Stop(place, f"nested deeper than {DEPTH} levels, by way of aliases")
        return node

    def _sequence(self, place: Place, depth: int) -> Sequence:
        items: list[Node] = []
        size, height = 1, 0
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(item := self._node(event, (*place.path, str(len(items))), depth + 1))
            size, height = self._grown(size, item, place), max(height, 1 + item.height)
        return Sequence(place, tuple(items), size, height)

    def _mapping(self, place: Place, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        inherited: list[Node] = []
        size, height = 1, 0
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, place.path, depth)
            path = (*place.path, key) if key is not None else place.path
            at = _place(event, path)
            node = self._node(next(self.events), path, depth + 1)
            size, height = self._grown(size, node, at), max(height, 1 + node.height)
            if key is None:
                continue
            if key == "<<" and not getattr(event, "style", None):
                inherited += node.items if isinstance(node, Sequence) else (node,)
            elif key in entries:
                self._complain(at, f"the key {quoted(key)} is here twice, first on line {entries[key].key.line}: remove one of them")
            else:
                entries[key] = Entry(at, node)
        for each in inherited:
            if not isinstance(each, Mapping):
                self._complain(each.place, "<< can merge only a mapping")
            else:
                entries = {**each.entries, **entries}
        return Mapping(place, entries, size, height)

    def _grown(self, size: int, node: Node, place: Place) -> int:
        if size + node.size > NODES:
            raise _Stop(place, f"more than {NODES:,} values, with every alias written out: this is not an inventory")
        return size + node.size

    def _key(self, event: Any, path: tuple[str, ...], depth: int) -> str | None:
        node = self._node(event, path, depth + 1)
        if not isinstance(node, Scalar):
            self._complain(_place(event, path), "a key has to be text: neither a list nor a mapping can be one, nor a bare {{ … }}")
            return None
        if isinstance(node.value, str):
            return node.value
        if node.value is None:
            self._complain(node.place, "a key is missing in front of the colon")
        else:
            self._complain(node.place._replace(path=(*path, node.text)), f"{NO_TEXT}{as_read(node.text)}")
            return node.text
        return None

    def _scalar(self, event: Any, place: Place) -> Scalar:
        text: str = event.value
        if not event.style and event.end_mark.line > event.start_mark.line:
            self._refuse_tabs(event, place.path)
        if found := CONTROL.search(text):
            what = NAMES.get(found[0], f"the invisible character U+{ord(found[0]):04X}")
            self._complain(place, f"has {what} in it, which no value of an inventory may have: write it on one line, in quotes")
        if event.style:  # quoted
            return Scalar(place, text, text)
        if words := trap(text):
            self._complain(place, words)
            return Scalar(place, text, text)
        return Scalar(place, meant(text), text)

    def _refuse_tabs(self, event: Any, path: tuple[str, ...]) -> None:
        for number in range(event.start_mark.line + 1, event.end_mark.line + 1):
            if problem := tab_in(self.lines[number], number):
                raise _Stop(problem.place._replace(path=path), problem.words)

    def _complain(self, place: Place, words: str) -> None:
        self.problems.append(Problem(place, words))


def _place(event: Any, path: tuple[str, ...]) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1, path)

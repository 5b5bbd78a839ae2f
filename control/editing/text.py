"""An inventory changed in place: one value, one line, and every comment stays where it is.

ruamel.yaml says where each key and value stands; only that much of the text is replaced, so that nothing else can move. What came out is
read again, and has to differ from what went in by what was asked for and by nothing else.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from inventory.compose import Unreadable, compose
from inventory.errors import PaddockError
from inventory.marks import plain
from inventory.scalars import meant, trap

PLAIN = re.compile(r"[A-Za-z0-9/+-]?[A-Za-z0-9][A-Za-z0-9._/+=-]*|\.[0-9]+")
STEP = "  "
"""How far a key stands to the right of the one that it belongs to."""


@dataclass(frozen=True)
class Edit:
    """The value that is to stand behind a path of keys, as a person would type it; None takes the key away."""

    path: tuple[str, ...]
    value: str | None


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with the edits made, a line each. Raises PaddockError for what cannot be done without touching something else."""
    for edit in edits:
        wanted = _with(_data(text), edit)
        where = ".".join(edit.path)
        try:
            text = _Text(text).with_edit(edit)
        except _NotInPlace as reason:
            raise PaddockError(f"{where}: {reason}: edit it by hand") from None
        if _without_empty(_data(text), edit.path) != _without_empty(wanted, edit.path):
            raise PaddockError(f"{where}: this value is shared with another place of the inventory: edit it by hand")
    return text


def value_at(text: str, path: tuple[str, ...]) -> Any:
    """What is written behind a path of keys, None where nothing is."""
    found = _data(text)
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _data(text: str) -> Any:
    try:
        return plain(compose(text.removeprefix("\ufeff"))[0])
    except Unreadable:
        return None


def _with(data: Any, edit: Edit) -> Any:
    """The data as it is to be."""
    data = copy.deepcopy(data)
    inner = data
    for key in edit.path[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    if edit.value is None:
        inner.pop(edit.path[-1], None)
    else:
        inner[edit.path[-1]] = meant(edit.value) if _scalar(edit.value) == edit.value else edit.value
    return data


def _without_empty(data: Any, path: tuple[str, ...]) -> Any:
    """The data for a comparison: on the way of a path, nothing behind a key is the same as a mapping with nothing in it, and the last
    mapping may go with the last of its keys.
    """
    if len(path) < 2 or not isinstance(data, dict) or path[0] not in data:
        return data
    inner = _without_empty(data[path[0]], path[1:]) or None
    if len(path) == 2 and inner is None:
        return {key: value for key, value in data.items() if key != path[0]}
    return {**data, path[0]: inner}


def _scalar(text: str) -> str:
    """The text as YAML takes it for what it says: in quotes where it would be read as something else."""
    if (PLAIN.fullmatch(text) or not isinstance(meant(text), str | None)) and meant(text) is not None and not trap(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _key(text: str) -> str:
    """A key as YAML takes it for text, which `no` and `1` are not."""
    return text if isinstance(meant(text), str) and not trap(text) else json.dumps(text, ensure_ascii=False)


class _NotInPlace(Exception):
    """Why an edit cannot be made by replacing a piece of the text."""


class _Text:
    def __init__(self, text: str) -> None:
        from ruamel.yaml import YAML

        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.skipped = len(text) - len(text.removeprefix("\ufeff"))  # ruamel counts from after a byte order mark
        self.root = YAML().compose(text[self.skipped :])

    def with_edit(self, edit: Edit) -> str:
        entries: list[tuple[Any, Any]] = []
        node = self.root
        for depth, key in enumerate(edit.path):
            found = next(((name, value) for name, value in node.value if name.value == key), None)
            if found is None:
                return self.text if edit.value is None else self._added(node, edit.path[depth:], edit.value)
            if self._begin(found[1]) < self._begin(found[0]):
                raise _NotInPlace(f"line {found[0].start_mark.line + 1} takes over by * what is written elsewhere")
            entries.append((node, found))
            node = found[1]
            if depth < len(edit.path) - 1 and self._is_empty(node):
                return self.text if edit.value is None else self._begun(found[0], edit.path[depth + 1 :], edit.value)
            if depth < len(edit.path) - 1 and not self._is_mapping(node):
                raise _NotInPlace(f"line {node.start_mark.line + 1} has no mapping")
        if edit.value is None:
            return self._taken(entries)
        if self._is_mapping(node) or isinstance(node.value, list):
            raise _NotInPlace(f"line {node.start_mark.line + 1} has no single value")
        if self._is_empty(node):
            return self._spliced(self._end(entries[-1][1][0]) + 1, self._end(node), f" {_scalar(edit.value)}")
        return self._replaced(node, _scalar(edit.value))

    def _replaced(self, node: Any, value: str) -> str:
        """With another value, and the comment after it where it was, if there is room."""
        begin, end = self._begin(node), self._end(node)
        room = re.match(r"( +)#", self.text[end:])
        width = max(1, len(room[1]) - len(value) + end - begin) if room else 0
        return self._spliced(begin, end + (len(room[1]) if room else 0), value + " " * width)

    def _added(self, mapping: Any, path: tuple[str, ...], value: str) -> str:
        """With a key more at the end of a mapping."""
        entry = _line(path, value)
        if mapping.flow_style:
            if not mapping.value:
                return self._spliced(self._begin(mapping), self._end(mapping), f"{{{entry}}}")
            at = self._after(mapping.value[-1])
            return self._spliced(at, at, f", {entry}")
        indent = " " * mapping.value[0][0].start_mark.column
        return self._line_after(self._last(mapping), indent + entry)

    def _begun(self, key: Any, path: tuple[str, ...], value: str) -> str:
        """With a mapping behind a key that has had nothing."""
        return self._line_after(self._end(key), " " * key.start_mark.column + STEP + _line(path, value))

    def _taken(self, entries: list[tuple[Any, Any]], emptied: bool = False) -> str:
        """Without the last of the entries, each in the mapping of the one before. A block that is emptied by that goes too, but no more."""
        mapping, (key, node) = entries[-1]
        if len(mapping.value) == 1 and mapping.flow_style:
            return self._spliced(self._begin(mapping), self._end(mapping), "{}")
        if len(mapping.value) == 1 and len(entries) > 1 and not emptied:
            return self._taken(entries[:-1], emptied=True)
        at = next(index for index, (name, _) in enumerate(mapping.value) if name is key)
        if mapping.flow_style and at + 1 < len(mapping.value):
            return self._spliced(self._begin(key), self._begin(mapping.value[at + 1][0]), "")
        if mapping.flow_style:
            return self._spliced(self._after(mapping.value[at - 1]), self._after((key, node)), "")
        first = self.text.rfind("\n", 0, self._begin(key)) + 1
        last = self.text.find("\n", self._after((key, node)))
        return self._spliced(first, last + 1 if last >= 0 else len(self.text), "")

    def _line_after(self, at: int, line: str) -> str:
        """With a line more, after the one that `at` is in."""
        end = self.text.find("\n", at)
        if end < 0:
            return self.text + self.newline + line
        return self._spliced(end + 1, end + 1, line + self.newline)

    def _spliced(self, begin: int, end: int, piece: str) -> str:
        return self.text[:begin] + piece + self.text[end:]

    def _last(self, node: Any) -> int:
        """Where what a node says ends; what YAML calls the end of a block has the comments after it in it."""
        if isinstance(node.value, list) and node.value and not node.flow_style:
            child = node.value[-1]
            return self._after(child) if isinstance(child, tuple) else self._last(child)
        return self._end(node)

    def _after(self, entry: tuple[Any, Any]) -> int:
        """Where an entry of a mapping ends; nothing behind a key is a place further down."""
        key, value = entry
        is_alias = self._begin(value) < self._begin(key)
        return self._end(key) + 1 if is_alias or self._is_empty(value) else self._last(value)

    def _begin(self, node: Any) -> int:
        return int(node.start_mark.index) + self.skipped

    def _end(self, node: Any) -> int:
        return int(node.end_mark.index) + self.skipped

    @staticmethod
    def _is_mapping(node: Any) -> bool:
        return isinstance(node.value, list) and str(node.id) == "mapping"

    @staticmethod
    def _is_empty(node: Any) -> bool:
        return node.value == "" and not node.style


def _line(path: tuple[str, ...], value: str) -> str:
    """`preset: {ctx-size: 4096}`"""
    *above, last = path
    entry = f"{_key(last)}: {_scalar(value)}"
    for key in reversed(above):
        entry = f"{_key(key)}: {{{entry}}}"
    return entry

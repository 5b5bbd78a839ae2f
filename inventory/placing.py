"""Where in an inventory something stands that was found once it had been read: a key that leads there, or a line that begins with one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from inventory.load import Positions
from inventory.marks import Entry, Mapping, Node, Scalar, child
from inventory.problems import Place, Problem
from inventory.references import Carrier
from roles.references import Finding

REST = re.compile(r"[^\s:]*:\s+")
"""What is left of a path whose last keys nobody has written."""


def placed(found: Iterable[tuple[str, Finding]], positions: Positions) -> Iterator[Problem]:
    """The findings of hosts, each at its place. One that hosts share is told once, for the first of them."""
    first: dict[Place, str] = {}
    for host, finding in found:
        problem = _of_path(finding.words, positions) or _of_keys(host, finding, positions)
        if first.setdefault(problem.place, host) == host:
            yield problem


def placed_line(line: str, positions: Positions) -> str:
    """A line that may begin with a path of keys, `models.chat.preset: …`, as an error of the file is told; another as it is."""
    problem = _of_path(line, positions)
    return problem.told(positions.path) if problem else f"{positions.path}: {line}"


def _of_keys(host: str, finding: Finding, positions: Positions) -> Problem:
    carrier = Carrier(positions.hosts[host], {})
    return Problem(carrier.value(*finding.keys) if finding.of_value else carrier.key(*finding.keys), finding.words)


def _of_path(text: str, positions: Positions) -> Problem | None:
    """The problem where the text begins with a path: at the last of its keys that is written, at the value where that is one."""
    top, _, rest = text.partition(".")
    if top == "hosts" and (name := re.split(r"[.:]", rest, maxsplit=1)[0]) in positions.hosts:
        draft = positions.hosts[name]
        return _followed(Entry(draft.key, draft.node), rest[len(name) :])
    entry = child(positions.document, top) if top in ("models", "clients") else None
    return _followed(entry, f".{rest}") if entry else None


def _followed(entry: Entry, text: str) -> Problem | None:
    """`text` is what stands behind the path of the entry: `.roles.caddy.listen: …`"""
    while text.startswith(".") and (key := _next(entry.node, text[1:])) is not None:
        entry = child(entry.node, key) or entry
        text = text[1 + len(key) :]
    whole = text.startswith(": ")
    words = text[2:] if whole else REST.sub("", text, count=1) if REST.match(text) else ""
    if not words:
        return None
    return Problem(entry.node.place if whole and isinstance(entry.node, Scalar) else entry.key, words)


def _next(node: Node, text: str) -> str | None:
    """The key that the text begins with; a key may have dots in it."""
    keys = node.entries if isinstance(node, Mapping) else ()
    return max((key for key in keys if re.match(rf"{re.escape(key)}[.:]", text)), key=len, default=None)

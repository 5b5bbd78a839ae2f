"""Where in an inventory something stands that was found once it had been read: a key that leads there, or a line that begins with one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

from inventory.load import Positions
from inventory.marks import Entry, Mapping, Node, Scalar, Sequence, child, followed, mapping_at
from inventory.options import SHIPPED, Options, bare, read
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
        if option := _option(problem, positions):
            problem = Problem(option, problem.words.removeprefix(f"{option.path[-1]}: "))
        if first.setdefault(problem.place, host) == host:
            yield problem


def placed_line(line: str, positions: Positions) -> str:
    """A line that may begin with paths of keys, `hosts.ai: models.chat: …`, as an error of the file is told: at the last of them, or at the
    option of a preset that is named next."""
    problem = _of_path(line, positions)
    if not problem:
        return f"{positions.path}: {line}"
    within = _of_path(problem.words, positions) or problem
    option = _option(within, positions)
    return Problem((option or within.place)._replace(path=()), line).told(positions.path)


def _option(problem: Problem, positions: Positions) -> Place | None:
    """Where the value of the option stands that a problem of a preset names, under any of its spellings: in that preset, or in one of a
    host's, which a model's adds to."""
    path = problem.place.path
    own = (*path[:2], "preset") if path[:1] == ("models",) else path
    named = set(re.findall(r"(?:^|(?<=: ))([a-z][a-z0-9-]*)(?=: | is )", problem.words))
    if "preset" not in own or not named:
        return None
    of_hosts = (mapping_at(each.node, "roles", "llama_server", "preset") for each in positions.hosts.values())
    entries = (each for preset in chain((mapping_at(positions.document, *own),), of_hosts) for each in preset.items())
    return next((entry.node.place for key, entry in entries if not named.isdisjoint(_spellings(key))), None)


def _spellings(key: str) -> set[str]:
    """The names of an option that the version of llama-server knows which Paddock builds by default; an unknown one's own."""
    option = _shipped().find(key)
    return {key, *(map(bare, option.names) if option else ())}


@cache
def _shipped() -> Options:
    return read(SHIPPED.read_text())


def _of_keys(host: str, finding: Finding, positions: Positions) -> Problem:
    carrier = Carrier(positions.hosts[host], {})
    return Problem(carrier.value(*finding.keys) if finding.of_value else carrier.key(*finding.keys), finding.words)


def _of_path(text: str, positions: Positions) -> Problem | None:
    """The problem where the text begins with a path: at the last of its keys that is written, at the value where that is one."""
    top, _, rest = text.partition(".")
    if top == "hosts" and (name := re.split(r"[.:]", rest, maxsplit=1)[0]) in positions.hosts:
        draft = positions.hosts[name]
        return _followed(Entry(draft.key, draft.node), rest[len(name) :])
    entry = child(positions.document, top) if top in ("models", "clients", "users") else None
    return _followed(entry, f".{rest}") if entry else None


def _followed(entry: Entry, text: str) -> Problem | None:
    """`text` is what stands behind the path of the entry: `.roles.caddy.listen: …`"""
    while text.startswith(".") and (key := _next(entry.node, text[1:])) is not None:
        entry = followed(entry, key)
        text = text[1 + len(key) :]
    whole = text.startswith(": ")
    words = text[2:] if whole else REST.sub("", text, count=1) if REST.match(text) else ""
    if not words:
        return None
    return Problem(entry.node.place if whole and isinstance(entry.node, Scalar) else entry.key, words)


def _next(node: Node, text: str) -> str | None:
    """The key that the text begins with, or the number of an item; a key may have dots in it."""
    keys = node.entries if isinstance(node, Mapping) else map(str, range(len(node.items))) if isinstance(node, Sequence) else ()
    return max((key for key in keys if re.match(rf"{re.escape(key)}[.:]", text)), key=len, default=None)

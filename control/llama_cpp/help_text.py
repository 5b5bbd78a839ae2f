"""The options of a llama-server without its source, such as that of a distribution's package, read out of its help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from inventory.errors import PaddockError
from inventory.options import Option, Options, bare
from resources.base import lines_of

HEADER = re.compile(r"(--?[A-Za-z][\w.-]*(?:, +--?[A-Za-z][\w.-]*)*)(?: ([^\s(]\S*(?: \S+)*))?( {2,}.*)?")
"""`-c,    --ctx-size N                     size of the prompt context`, or without what it is for, which then stands below."""

MACROS = (".TP", ".PP", ".HP")
"""What a manual page has in the line above an option."""

FONTS = re.compile(r"\\f[BIRP]|\\[&,/]")


class Entry(NamedTuple):
    """An option as the help has it: `(("-c", "--ctx-size"), "N", "LLAMA_ARG_CTX_SIZE")`"""

    names: tuple[str, ...]
    hint: str
    env: str


def options_of_help(text: str, base: Options, version: str) -> Options:
    """What a version takes, out of `llama-server --help`, or out of the manual page that help2man makes of it.

    A help says which options there are and what each value is called, and no more. So `base`, which came out of a source, says the rest: an
    option with the same spellings and the same value is as there, and the rules, the sizing and the types of tensors are those of `base`.
    They are taken over, not read. A new option with a number, or with one of a few words, takes those, and counts as one of a model.

    Raises PaddockError where `text` is no help, and for an option that is neither of these: somebody has to say what it takes.
    """
    entries = {entry.names: entry for entry in _entries(text)}
    if not any("--port" in names for names in entries):
        raise PaddockError(f"llama.cpp {version}: this is not the help of llama-server, for it has no --port")
    kept: list[Option] = []
    for option in base.all:
        entry = entries.get(option.names + option.negated)
        if entry and _is_of(entry.hint, option):
            kept.append(replace(option, env=entry.env))
            del entries[entry.names]
        elif option.part == "preset":  # no help has these
            kept.append(option)
    added = [_new(entry, base, version) for entry in entries.values()]
    return replace(base, source=f"packages llama.cpp {version}", label=version, all=(*kept, *added))


def _new(entry: Entry, base: Options, version: str) -> Option:
    """What `base` does not have."""
    if not any(base.find(bare(name)) for name in entry.names):
        if entry.hint == "N":
            return Option(entry.names, "whole", env=entry.env, hint=entry.hint)
        if re.fullmatch(r"\{[^\s{}]+\}", entry.hint):
            return Option(entry.names, "text", env=entry.env, hint=entry.hint, values=tuple(entry.hint[1:-1].split(",")))
    raise PaddockError(
        f"llama.cpp {version}: its help alone does not say what {', '.join(entry.names)} {entry.hint}".rstrip()
        + f" takes, and llama.cpp {base.label} does not have the same option: see the source of that version"
    )


def _is_of(hint: str, option: Option) -> bool:
    """Whether the help calls the option's value so. Of two values `Option` has the first; a list of words is no text in the source."""
    if option.takes == "two":
        return hint.startswith(f"{option.hint} ")
    return hint == (option.hint or option.separator.join(option.values))


def _entries(text: str) -> Iterator[Entry]:
    lines = [FONTS.sub("", line).replace(r"\-", "-") for line in lines_of(text)]
    manual = any(line.startswith(".TH ") for line in lines)
    found: tuple[tuple[str, ...], str] | None = None
    env = before = ""
    for line in lines:
        line = line.removeprefix('.SS "')
        header = HEADER.fullmatch(line)
        # In a manual page what an option is for may begin with another option, and nothing is indented.
        if header and (header[3] or not manual or before in MACROS):
            if found:
                yield Entry(*found, env)
            found, env = (tuple(re.split(r", +", header[1])), header[2] or ""), ""
        elif told := re.search(r"\(env: (\w+)\)", line):
            env = told[1]
        before = line
    if found:
        yield Entry(*found, env)

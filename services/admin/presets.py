"""The router's presets.ini, changed in place: one option of one section, every other byte as it was."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .answers import Refusal

CHANGED = "# Changed by"
"""What stands above a changed line of the presets. The unit's drop-in looks for it, too."""

OPTION = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*=\s*(?P<value>[^;#]*)")
CONTEXT = ("ctx-size", "c")


def with_context(text: str, model: str, size: int, note: str) -> tuple[str, int | None]:
    """The presets with another context for a model and a note above it, all else as it was; and the context until then, if one was said."""
    lines = text.split("\n")
    first, last = _section(lines, model)
    options = {at: found["name"] for at in range(first, last) if (found := OPTION.match(lines[at]))}
    said = [at for at, name in options.items() if name in CONTEXT]
    place = said[-1] if said else max(options, default=first - 1) + 1
    gone = {*said, *(at for at in range(first, last) if lines[at].startswith(CHANGED))}
    changed = [note, f"{options[place] if said else CONTEXT[0]} = {size}"]
    kept = [[line for at, line in enumerate(lines) if at not in gone and (at < place) == before] for before in (True, False)]
    was = option(text, model, CONTEXT) or option(text, "*", CONTEXT)
    return "\n".join([*kept[0], *changed, *kept[1]]), int(was) if was.isdecimal() else None


DEFAULT_SLOTS = 4
"""What llama-server takes where nothing is said."""


def option(text: str, section: str, names: tuple[str, ...]) -> str:
    """What a section says last under one of an option's names; nothing where it does not."""
    lines = text.split("\n")
    first, last = _section(lines, section)
    options = [found for line in lines[first:last] if (found := OPTION.match(line)) and found["name"] in names]
    return options[-1]["value"].strip() if options else ""


def _section(lines: list[str], name: str) -> tuple[int, int]:
    """The lines of a section below its header: the first, and the one after the last."""
    headers = [at for at, line in enumerate(lines) if line.startswith("[")]
    for header, following in zip(headers, [*headers[1:], len(lines)], strict=True):
        if lines[header].strip() == f"[{name}]":
            return header + 1, following
    raise Refusal(409, f"the presets on this host have no section [{name}] any more: `paddock up` mends them")


def slots(text: str, section: str) -> int:
    """How many requests share the context of a model, each with as much as the model was made for at most."""
    said = option(text, section, ("parallel", "np"))
    return int(said) if said.isdecimal() and int(said) else DEFAULT_SLOTS


def trained(path: str) -> int | None:
    """The context that a model was made for, out of the front of its GGUF; None where it does not stand there, or may not be read."""
    try:
        with Path(path or os.devnull).open("rb") as file:
            front = file.read(4 << 20)
    except OSError:
        return None
    # Behind a key stand four bytes that say what kind its value is, 4 for 32 bits without a sign, and the value, little-endian.
    found = re.search(rb"[a-z0-9_-]+\.context_length\x04\x00\x00\x00(.{4})", front, re.DOTALL)
    return (int.from_bytes(found[1], "little") or None) if found else None


def replace(path: Path, text: str) -> None:
    """By a rename: who reads the file finds the one text or the other, whole, whenever this process ends. Its mode stays."""
    found = path.stat()
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
        raise Refusal(409, f"{path} is not root's any more: `paddock up` mends it")
    near = unfinished(path)
    near.unlink(missing_ok=True)
    descriptor = os.open(near, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, found.st_mode & 0o777)
        os.fsync(descriptor)
    near.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def unfinished(path: Path) -> Path:
    return path.with_name(f".paddock-{path.name}")

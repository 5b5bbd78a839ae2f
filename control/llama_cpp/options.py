"""Which options a version of llama-server takes, and which types of tensors it loads, read out of its own source: what `paddock check`
knows before anything is built.

    ~/.cache/paddock/sources/<digest>.options.json        beside the sources, of each that was fetched

Those of the version that Paddock builds by default ship with it, and those of a source tree on this machine are read where it lies.
`python -m control.llama_cpp.options` writes the shipped list anew.

A distribution's packages come without a source. Lists of their versions ship too, by upstream's number, made of what llama-server tells of
itself. With the manual page of Debian's llama.cpp-tools, or the output of `llama-server --help`:

    python -m control.llama_cpp.options usr/share/man/man1/llama-server.1.gz 0.7.0       inventory/llama-server-options-0.7.0.json
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from control.fetching.archives import members
from control.llama_cpp.help_text import options_of_help
from control.llama_cpp.option_table import FILES, options_of
from inventory.bounds import SOURCE
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.load import Positions
from inventory.options import SHIPPED, Options, read
from inventory.presets import Judged, Known, judged, source_of
from roles.source import DEFAULT, Source

if TYPE_CHECKING:
    from control.fetching.download import Progress  # what fetches is loaded where something is fetched

READING = 5
"""Counted up when the same source is to give another list."""


def known(beside: Path) -> Known:
    """What is known without a connection; a source's relative path starts at `beside`, the inventory's directory."""
    return lru_cache(maxsize=None)(lambda source: _known(source, beside))


def options_by_host(fleet: Fleet, beside: Path) -> dict[str, Options]:
    """The options of each host's llama-server, as far as they are known without a connection."""
    of = known(beside)
    return {host: found for host in fleet.hosts if (source := source_of(fleet, host)) and (found := of(source))}


def learned(source: Source, beside: Path, progress: Progress) -> Options:
    """The options of a source, which is fetched where that was not done yet. Raises PaddockError where it cannot be, or cannot be read."""
    from control.llama_cpp.sources import source_archive

    return _known(source, beside) or _noted(source, source_archive(source, beside, progress))


def checked(positions: Positions, fleet: Fleet, progress: Progress | None = None) -> Judged:
    """The fleet's presets beside what its versions of llama-server take. Raises InventoryError with all that they would not, at its place.

    With `progress`, a source that nobody has seen yet is fetched first. One that cannot be is among the `unknown`, for a release that was
    imported needs no source; so is one that is written in a way which nobody could foresee.
    """
    beside = positions.path.parent
    found = judged(positions, fleet, known(beside))
    if progress and found.unknown:
        for source in found.unknown:
            with suppress(PaddockError):
                learned(source, beside, progress)
        found = judged(positions, fleet, known(beside))
    if found.problems:
        raise InventoryError(list(found.problems))
    return found


def _known(source: Source, beside: Path) -> Options | None:
    if source.path:
        root = beside / Path(source.path).expanduser()
        stamps = tuple((name, (root / name).stat().st_mtime_ns) for name in FILES if (root / name).is_file())
        return _in_tree(root, stamps, source.identity, source.label)
    if source.packages:
        return packaged(source.label, source.identity)
    if (shipped := _shipped(SHIPPED)) and shipped.source == source.identity:
        return shipped
    with suppress(OSError, ValueError, KeyError, TypeError):
        return read(_note(source).read_text())
    return None


@cache
def _in_tree(root: Path, stamps: tuple[tuple[str, int], ...], identity: str, label: str) -> Options | None:
    """Read once in a run, as long as no file in it changes: it takes half a second."""
    with suppress(PaddockError):
        return options_of({name: (root / name).read_text(errors="replace") for name, _ in stamps}, identity, label)
    return None


@cache
def _shipped(path: Path) -> Options | None:
    return read(path.read_text()) if path.is_file() else None


def packaged(version: str, identity: str) -> Options | None:
    """The options of a distribution's packages by their upstream version, `0.7.0`, whatever their revision, as those of the source with
    this identity. None for a version whose list does not ship."""
    found = _shipped(_list_of(version))
    return found and replace(found, source=identity)


def _list_of(version: str) -> Path:
    return SHIPPED.with_name(f"{SHIPPED.stem}-{version}.json")


def _note(source: Source) -> Path:
    from control.llama_cpp.sources import CACHE

    key = hashlib.sha256(f"{READING} {source.identity}".encode()).hexdigest()[:32]
    return CACHE.expanduser() / f"{key}.options.json"


def _noted(source: Source, archive: Path) -> Options:
    """The options in a source's archive, which are then known without it."""
    found = _in_archive(source, archive)
    scratch = _note(source).with_suffix(".new")
    scratch.write_text(found.written())
    scratch.replace(_note(source))
    return found


def _in_archive(source: Source, archive: Path) -> Options:
    wanted = {f"llama.cpp/{name}": name for name in FILES}
    texts = {
        wanted[each.name]: each.content().decode(errors="replace")
        for each in members(archive, SOURCE, source.identity)
        if each.name in wanted and each.info.isreg()
    }
    return options_of(texts, source.identity, source.label)


def shipped_anew() -> Options:
    """The options of what Paddock builds by default, out of its source, which is fetched where that was not done yet."""
    from control.llama_cpp.sources import source_archive

    return _in_archive(DEFAULT, source_archive(DEFAULT, Path()))


def packaged_anew(help_file: Path, version: str) -> Options:
    """The options of an upstream version, out of its help (`.gz` or not). Raises PaddockError where that does not say them."""
    content = help_file.read_bytes()
    text = (gzip.decompress(content) if help_file.suffix == ".gz" else content).decode()
    return options_of_help(text, read(SHIPPED.read_text()), version)


if __name__ == "__main__":
    if sys.argv[1:]:
        _help, _version = sys.argv[1:]
        _path, _options = _list_of(_version), packaged_anew(Path(_help), _version)
        _base = read(SHIPPED.read_text())
        print("new:", *(each.name for each in _options.all if not _base.find(each.name)))
        print("gone:", *(each.name for each in _base.all if not _options.find(each.name)))
    else:
        _path, _options = SHIPPED, shipped_anew()
    _path.write_text(_options.written())
    print(f"{_path}: written anew")

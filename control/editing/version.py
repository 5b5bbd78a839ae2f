"""Another version of llama.cpp written into the inventory, where its hosts take theirs from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from control.editing.candidate import Candidate, candidate, read_text
from control.editing.text import Edit, edited, value_at
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet
from roles.source import DEFAULT, PINNED, Source

ROLE = "llama_cpp"
SDIST = "llama-cpp-python=="
COMMIT = re.compile(r"[0-9a-f]{40}")
NUMBER = re.compile(r"[0-9][0-9A-Za-z.]*")
PACKAGE = re.compile(r"[0-9]+:[0-9].*-.+")

Keys = tuple[str, ...]
Pin = Callable[[Source], str]
"""The sha256 that the package index has of a source distribution."""


def with_version(path: Path, fleet: Fleet, version: str, ggml: str, pin: Pin) -> Candidate:
    """The inventory with the version in each place that says one of the same kind: `0.3.37` of llama-cpp-python, the full commit of a Git
    repository, or the whole version of the packages (`1:0.9.0+dfsg-1`, with `ggml`).

    Raises UsageError for a version of none of these kinds or that nothing in the inventory can have, PaddockError where the text cannot be
    changed alone, or where the index has no such file.
    """
    kind = _kind(version, ggml)
    text = read_text(path)
    edits = [each for place in _places(text) for each in _edits(text, place, kind, version, ggml, pin)]
    if not edits and kind == "sdist" and _has_default(fleet):
        edits = [*_of_default(text, version, pin)]
    if not edits:
        raise UsageError(f"--to {version}: no llama_cpp role of {path} has a source of this kind ({kind}): write its `source` by hand")
    return candidate(path, edited(text, edits))


def _kind(version: str, ggml: str) -> str:
    if COMMIT.fullmatch(version):
        return "git"
    if PACKAGE.fullmatch(version):
        if not ggml:
            raise UsageError(f"--to {version}: packages need the version of libggml0 too: --ggml 0.27.0-1")
        return "packages"
    if NUMBER.fullmatch(version.removeprefix(SDIST)):
        return "sdist"
    raise UsageError(
        f"--to {version}: is no version of llama-cpp-python (0.3.36), no full commit (40 hex digits) and no whole version of packages"
        " (1:0.7.0+dfsg-2)"
    )


def _places(text: str) -> Iterator[Keys]:
    """Where the inventory gives a host, a group or all hosts the role."""
    for above in ((), *(("groups", each) for each in _names(text, "groups")), *(("hosts", each) for each in _names(text, "hosts"))):
        place = (*above, "roles", ROLE)
        if isinstance(value_at(text, place), dict):
            yield place


def _names(text: str, key: str) -> list[str]:
    found = value_at(text, (key,))
    return [str(each) for each in found] if isinstance(found, dict) else []


def _edits(text: str, place: Keys, kind: str, version: str, ggml: str, pin: Pin) -> Iterator[Edit]:
    source = value_at(text, (*place, "source"))
    if not isinstance(source, dict) or kind not in source:
        return
    at = (*place, "source")
    if kind == "sdist":
        name = f"{SDIST}{version.removeprefix(SDIST)}"
        yield Edit((*at, "sdist"), name)
        if "sha256" in source or name not in PINNED:
            yield Edit((*at, "sha256"), _digest(name, bool(source.get("plain_http")), pin))
    elif kind == "git":
        yield Edit((*at, "commit"), version)
    else:
        yield Edit((*at, "packages"), version)
        yield Edit((*at, "ggml"), ggml)


def _has_default(fleet: Fleet) -> bool:
    return any(source == DEFAULT for host in fleet.hosts.values() if (source := _source(fleet, host.name)))


def _source(fleet: Fleet, host: str) -> Source | None:
    settings = fleet.hosts[host].carried.get(ROLE)
    return settings.llama_cpp_source() if settings else None


def _of_default(text: str, version: str, pin: Pin) -> Iterator[Edit]:
    """The version that Paddock builds by default stands nowhere: the new one is written where the role is given."""
    name = f"{SDIST}{version.removeprefix(SDIST)}"
    for above in ((), *(("groups", each) for each in _names(text, "groups")), *(("hosts", each) for each in _names(text, "hosts"))):
        roles = value_at(text, (*above, "roles"))
        if isinstance(roles, dict) and ROLE in roles and value_at(text, (*above, "roles", ROLE, "source")) is None:
            yield Edit((*above, "roles", ROLE, "source", "sdist"), name)
            yield Edit((*above, "roles", ROLE, "source", "sha256"), _digest(name, False, pin))


def _digest(name: str, plain_http: bool, pin: Pin) -> str:
    if name in PINNED:
        return PINNED[name]
    try:
        return pin(Source(sdist=name, plain_http=plain_http))
    except ValueError as error:  # pydantic's: the name has the right form, so this is a bug rather than an input
        raise PaddockError(f"{name}: {error}") from None

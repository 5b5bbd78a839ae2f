"""The most that Paddock takes of what comes from outside: a row an input, used where that input is read.

docs/limits.md shows the same table; `python -m inventory.bounds` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from inventory.errors import PaddockError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Bound:
    """What is taken of one input. Beyond it the input is refused, and nothing of it is kept."""

    what: str
    """`a source archive`: what comes, and from where."""
    size: int
    """Bytes in all."""
    seconds: float | None = None
    """From the question to the last byte, however slowly those come; None of what lies on this machine."""
    memory: int | None = None
    """The bytes of it that are in memory at a time; None where that may be all."""
    items: int = 0
    """How many it may have of what `of` names."""
    of: str = ""
    piece: int = 0
    """Bytes of a `piece_of` it."""
    piece_of: str = "line"


class TooMuch(PaddockError):
    """An input is beyond its bound."""


INVENTORY = Bound("an inventory", 10_000_000, items=500_000, of="values, 32 levels deep")
LOCAL_FILE = Bound("a lock, a certificate, a file of the state", 64 * MIB)
TYPED = Bound("standard input", 16 * MIB)

LISTING = Bound("an answer of Hugging Face's API", 32 * MIB, 2 * MINUTE, items=20_000, of="files a repository")
INDEX_PAGE = Bound("a page of a package index", 64 * MIB, 2 * MINUTE)
IMAGE_MANIFEST = Bound("what a registry says of an image", 4 * MIB, 2 * MINUTE)
IMAGE = Bound("an image, fetched and packed", 64 * GIB, 6 * HOUR, MIB, items=256, of="files")
DOWNLOAD = Bound("a source archive or a package file, fetched", 2 * GIB, 3 * HOUR, 256 * KIB)
MODEL = Bound("a model that is read for its digest", 4 * TIB, 48 * HOUR, MIB)
GGUF_HEADER = Bound("the header of a GGUF", 64 * MIB, 2 * MINUTE, items=1 << 17, of="tensors a model, 1,024 parts")
GIT = Bound("a commit of a Git repository, and its packages for the web page", 4 * GIB, HOUR, 64 * KIB)

SOURCE = Bound("llama.cpp's source, unpacked", GIB, items=100_000, of="files")
ARTIFACT = Bound("an artifact, unpacked", 4 * GIB, memory=MIB, items=20_000, of="files")
ARTIFACT_FILE = Bound("an artifact, packed", 4 * GIB, 3 * HOUR, 256 * KIB, items=2, of="files")
BACKUP = Bound("a backup, opened", TIB, memory=64 * MIB, items=100_000, of="files")
ARCHIVE_HEADERS = Bound("what an archive says of its files", 64 * MIB, piece=16 * KIB, piece_of="header")
PROGRAM = Bound("what is read of a program to learn what it needs", 4 * MIB)
WEB_PAGE = Bound("llama.cpp's web page, built", 256 * MIB, items=10_000, of="files")

SSH_GREETING = Bound("what a host greets with before SSH begins", 64 * KIB, MINUTE)
SSH_PACKET = Bound("a packet of SSH", 256 * KIB)
HOST_OUTPUT = Bound("what a command prints on a host", 128 * MIB, 48 * HOUR, items=2_000_000, of="lines", piece=4 * MIB)
HOST_ERRORS = Bound("the errors of a command whose lines are followed", MIB)
MEASURED = Bound("what a host measured of two releases", 64 * MIB, 4 * HOUR, items=10_000, of="lines", piece=MIB)
REVOCATIONS = Bound("who has been thrown out, as a host keeps it", 1_000_000)
EVIDENCE = Bound("what a host has collected of a switch that was taken back", 16 * MIB, items=200, of="files")
HISTORY = Bound("an earlier configuration, as a host keeps it", 16 * MIB)
FOLLOWED = Bound("a line of a journal that is followed", MIB, memory=MIB, piece=MIB)

SERVER_ANSWER = Bound("an answer of llama-server", 16 * MIB, MINUTE)
SERVER_STREAM = Bound("a streamed answer of llama-server", 64 * MIB, 24 * HOUR, MIB, piece=MIB, piece_of="event")
VERIFYING = Bound("all that verifying one host reads of it", 128 * MIB, 12 * HOUR, 4 * GIB)
VERIFY_ANSWER = Bound("an answer that `verify` asks for from outside", 16 * MIB, 5 * MINUTE)

ADMIN_REQUEST = Bound("a request to the admin endpoint", 4096, 10, items=16, of="requests at a time")
ADMIN_ANSWER = Bound("an answer of llama-server to the admin endpoint", 16 * MIB, 2 * MINUTE)

SLOWEST_BYTES_A_S = 256
"""What comes more slowly than this over a minute is given up."""
STALL_S = 60
"""Between two pieces of what comes over HTTP."""
CONNECT_S = 10

JSON_DEPTH = 200
"""Levels of JSON that is no inventory."""

ALL = tuple(value for value in globals().values() if isinstance(value, Bound))


def from_json(text: str | bytes | bytearray) -> Any:
    """As json.loads. Raises ValueError also where it is nested deeper than JSON_DEPTH: Python would raise RecursionError, here or later."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level = [value]
    for _ in range(JSON_DEPTH + 1):
        level = [each for one in level if isinstance(one, (dict, list)) for each in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return value
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {JSON_DEPTH} levels")


def size_words(size: int) -> str:
    """`64 MiB`; a size that is no whole number of the largest unit in a smaller one"""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1_000_000, "MB")):
        if size >= unit and not size % unit:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"


def time_words(seconds: float | None) -> str:
    if seconds is None:
        return "local"
    if seconds >= HOUR:
        return f"{seconds / HOUR:g} h"
    return f"{seconds / MINUTE:g} min" if seconds >= MINUTE else f"{seconds:g} s"


def table() -> Iterator[str]:
    """The lines of the table in docs/limits.md."""
    yield "| input | bytes | time | in memory at a time | and |"
    yield "|---|---|---|---|---|"
    for each in ALL:
        more = [f"{each.items:,} {each.of}"] if each.items else []
        more += [f"{size_words(each.piece)} a {each.piece_of}"] if each.piece else []
        columns = (each.what, size_words(each.size), time_words(each.seconds), size_words(each.memory or each.size), ", ".join(more))
        yield f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    print(*table(), sep="\n")

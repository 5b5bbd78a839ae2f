"""What is printed. Control characters in it are shown, not obeyed, whoever's text they are in; those of Paddock's own are marked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from roles.wording import legible

_MARK = f"\ue000{os.urandom(8).hex()}"
"""Nobody else can know it."""

_MARKED = re.compile(f"{_MARK}([0-9a-f]*);")


def control(sequence: str) -> str:
    """A control sequence for the terminal, as text that may be printed."""
    return f"{_MARK}{sequence.encode().hex()};"


def shown(text: str) -> str:
    """As the terminal gets it."""
    return _MARKED.sub(lambda found: bytes.fromhex(found[1]).decode(), legible(text))


class Shown:
    """A stream that writes text as `shown`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(shown(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unfiltered(stream: TextIO) -> TextIO:
    """The stream itself: for what a program reads that is no terminal."""
    return stream if stream.isatty() else getattr(stream, "_stream", stream)


@contextmanager
def shown_streams() -> Iterator[None]:
    """For as long as it lasts, all that this process prints is `shown`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Shown(each)) for each in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

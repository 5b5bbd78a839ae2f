"""Where something stands in an inventory, and what is wrong there."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """Line and column, both from 1, and the keys that lead there."""

    line: int
    column: int
    path: tuple[str, ...] = ()


class Problem(NamedTuple):
    """What is wrong at a place, and what to do. Problems sort as they stand in the file."""

    place: Place
    words: str

    def told(self, file: object) -> str:
        """`home.yml:34:18: hosts.pea.accelerator: "cuda-pascl" is not one of auto, cpu`"""
        keys = self.place.path if len(self.place.path) <= 12 else (*self.place.path[:8], "…")
        path = f"{'.'.join(map(_shortened, keys))}: " if keys else ""
        return f"{file}:{self.place.line}:{self.place.column}: " + "".join(map(_printable, path + self.words))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _shortened(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:60]}…"


def quoted(text: str) -> str:
    """The text between quotes, shortened where it is long: `"cuda-pascl"`."""
    return f'"{_shortened(text)}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean "accelerator"?)`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word[:128], known, n=1, cutoff=0.55)
    return f' (did you mean "{close[0]}"?)' if close else ""


def one_of(words: Collection[str]) -> str:
    """`text, a whole number or true/false`"""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last

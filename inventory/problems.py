"""Where something stands in an inventory, and what is wrong there."""

from __future__ import annotations

from typing import NamedTuple

from roles.wording import one_line, shortened


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
        path = f"{'.'.join(map(shortened, keys))}: " if keys else ""
        return f"{file}:{self.place.line}:{self.place.column}: " + one_line(path + self.words)

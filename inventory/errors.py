"""What a user can cause, told in one line: what, where, what to do. The command prints the text and leaves with `exit_code`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inventory.problems import Problem

NOT_INDENTED = re.compile(r"\n(?!  |\n|$)")
"""Before a line that begins at the left, or but one column from it."""


class PaddockError(Exception):
    """Something that is not as it has to be, in words for the person at the terminal. They may quote others: only their first line stands
    at the left, so that no other's line looks like one of Paddock's own.
    """

    exit_code = 1

    def __str__(self) -> str:
        return NOT_INDENTED.sub("\n    ", super().__str__())


class UsageError(PaddockError):
    """The command line is wrong."""

    exit_code = 2


class InventoryError(PaddockError):
    """Everything that is wrong with an inventory, a line each: `FILE:LINE:COLUMN: PATH: what, and what to do`. `found` are the same with
    their places, where the file itself was read."""

    exit_code = 2

    def __init__(self, problems: list[str], found: Iterable[Problem] = ()) -> None:
        super().__init__("\n".join(problems))
        self.found = tuple(found)
        self.problems = [each.replace("\n", "\\n") for each in problems]

    def __str__(self) -> str:
        return "\n".join(self.problems)

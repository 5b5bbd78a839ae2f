"""What a user can cause, told in one line: what, where, what to do. The command prints the text and leaves with `exit_code`."""

from __future__ import annotations


class PaddockError(Exception):
    """Something that is not as it has to be, in words for the person at the terminal."""

    exit_code = 1


class UsageError(PaddockError):
    """The command line is wrong."""

    exit_code = 2


class InventoryError(PaddockError):
    """Everything that is wrong with an inventory, a line each: `FILE:LINE:COLUMN: PATH: what, and what to do`."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

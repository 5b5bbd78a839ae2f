"""What a person at the terminal is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.views.colour import coloured
from inventory.errors import UsageError
from roles.wording import one_line

if TYPE_CHECKING:
    from control.editing.candidate import Candidate


def confirmed(question: str, yes: bool, otherwise: str) -> bool:
    """Whether the person says yes. Raises UsageError where nobody can be asked and `--yes` was not given."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask: {otherwise}")
    try:
        return input(f"{one_line(question)} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def ask_at_terminal(question: str) -> bool:
    """No, where nobody is there to look at a host key: that host fails, the others need not."""
    return sys.stdin.isatty() and confirmed(question, False, "")


def agreed(candidate: Candidate, question: str, yes: bool, otherwise: str, notes: Iterable[str] = ()) -> bool:
    """Shows how the inventory file would change, with the notes below it, and asks. Nothing is written here."""
    for line in candidate.difference():
        print(coloured(line, "@" if line.startswith("@@") else line[:1]), flush=True)
    for note in notes:
        print(note, flush=True)
    if confirmed(question, yes, otherwise):
        return True
    print("nothing was changed")
    return False

"""Shared by the actions of `history`: which record is meant."""

from __future__ import annotations

import argparse
import sys

from cli.arguments import opened
from control.lifecycle.history import History
from inventory.errors import UsageError


def number_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "number", nargs="?", metavar="N", help="the run, as `paddock history` numbers it; by default the last one"
    ).completer = (  # type: ignore[attr-defined]
        _numbers
    )


def number_meant(word: str | None, history: History) -> int:
    """Raises UsageError for what is no number, and where there is no record at all."""
    if word is None:
        if there := history.numbers():
            return there[0]
        raise UsageError("no run has changed anything yet")
    if not word.isdecimal() or len(word) > 9:
        raise UsageError(f"{word}: is not the number of a run: `paddock history` lists them")
    return int(word)


def tell(words: str) -> None:
    print(words, file=sys.stderr)


def _numbers(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    this = opened(parsed_args, only_read=True)
    return [str(number) for number in History(this.state).numbers() if str(number).startswith(prefix)]

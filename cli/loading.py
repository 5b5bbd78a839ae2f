"""Ctrl-C while the command is loaded ends it at once, without a word: nothing is at work yet. Imported before all else."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C has ended."""

PROGRAMS = ("-m", "paddock")
"""What Python calls this program while it loads it. Whoever else imports the command answers Ctrl-C in their own way."""


def begins() -> None:
    """Until `ends`. Where Ctrl-C is ignored it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def ends() -> None:
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os._exit(INTERRUPTED)


if os.path.basename(sys.argv[0]) in PROGRAMS:  # noqa: PTH119 - pathlib is not loaded yet
    begins()

"""What is said while something happens: a line each, and where a terminal listens one line that is written over."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from cli.views.terminal import control

OVER = control("\r\033[K")
"""Writes over the line."""

WIDTH = 190


class Progress(logging.Handler):
    """Hears a run's own words, and the progress of builds, which come through logging as `paddock.progress`."""

    def __init__(self, to_stderr: bool = False) -> None:
        super().__init__()
        self.to_stderr = to_stderr
        self.live = self.stream.isatty()
        self.passing = False
        self.told: set[str] = set()
        logger = logging.getLogger("paddock.progress")
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(logging.INFO)

    @property
    def stream(self) -> TextIO:
        return sys.stderr if self.to_stderr else sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        if self.live:
            self._write(f"{OVER}  {record.getMessage()[:WIDTH]}")
            self.passing = True
        else:
            self.line(f"  {record.getMessage()}")

    def line(self, text: str) -> None:
        self._write((OVER if self.passing else "") + text + "\n")
        self.passing = False

    def _write(self, text: str) -> None:
        """Whoever listened may have gone (`| head`): the work on the hosts goes on without them."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def of(self, host: str, text: str) -> None:
        self.line(f"  {host}  {text}")

    def error(self, text: str) -> None:
        self.line("") if self.passing else None
        print(text, file=sys.stderr, flush=True)

    def failures(self, failures: Mapping[str, str]) -> None:
        """Each once, on standard error."""
        for host, why in failures.items():
            if host not in self.told:
                self.told.add(host)
                self.error(f"{host}: {why}")

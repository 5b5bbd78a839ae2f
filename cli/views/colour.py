"""Colours, on a terminal that knows them."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from cli.views.terminal import control

PLAIN = control("\033[0m")
COLOURS = {"+": "32", "~": "33", "-": "31", "@": "36"}


def colourful(stream: TextIO) -> bool:
    """On a terminal that knows colours, of somebody who wants them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, sign: str) -> str:
    return control(f"\033[{COLOURS[sign]}m") + text + PLAIN if sign in COLOURS and colourful(sys.stdout) else text


def dimmed(text: str, stream: TextIO) -> str:
    return control("\033[2m") + text + PLAIN if colourful(stream) else text

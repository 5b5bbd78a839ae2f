"""Text that would do something to the terminal that shows it, or that looks like a line of Paddock's own."""

from __future__ import annotations

import re

FORGED = "FORGED"
"""What a line begins with that somebody else made."""

SEEN = "zqhostile"
"""Stands in every hostile text, and nowhere else."""

LINE = f"{SEEN}\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[8m\x9b31m\r{FORGED}\u2028{FORGED}\u2029\x85{FORGED}\u202e\u2066\u061c\ufeff\x08\x7f"
"""One line, as whoever splits at line ends sees it: escape sequences, OSC 52, a carriage return, line ends of Unicode, bidi controls."""

LINES = f"{LINE}\n{FORGED}: 0 changed\n"

OWN = re.compile("\x1b\\[(?:0|2|31|32|33|36)m|\r\x1b\\[K")
"""Paddock's own colours, and how it writes over a line of progress."""

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]")


def faults(shown: str) -> list[str]:
    """What is wrong with what a terminal was sent, by lines: what it would obey, what is forged, a traceback."""
    lines = OWN.sub("", shown.replace("\r\n", "\n")).split("\n")
    return [repr(line) for line in lines if OBEYED.search(line) or line.startswith((FORGED, "Traceback"))]

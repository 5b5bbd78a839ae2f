"""What apt and dpkg complain about: of their many lines the one that the others come of, and the package that it is about."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNTOLD = "dpkg: error processing "
"""dpkg says why on the next line."""

TELLING = (UNTOLD, "E: Failed to fetch ", "W: Failed to fetch ", "E: ")

PACKAGE = (
    re.compile(r"dpkg: error processing package ([a-z0-9][a-z0-9+.-]+)"),
    re.compile(r"E: Unable to locate package ([a-z0-9][a-z0-9+.-]+)"),
    re.compile(r"E: Package '([a-z0-9][a-z0-9+.-]+)' has no installation candidate"),
    re.compile(r"(?:dpkg: error processing archive|E: Failed to fetch) \S+/([a-z0-9][a-z0-9+.-]+)_[^/\s]+\.deb"),
)


NOT_FREE = re.compile(r"E: .*\b(?:libcuda1|libcu[a-z0-9]+|nvidia-[a-z0-9-]+|firmware-nvidia-[a-z0-9-]+)\b")
"""Of which Debian's `main` has none."""


def complaint(lines: Sequence[str]) -> str:
    """The line that matters; empty where neither of the two has said anything."""
    for beginning in TELLING:
        for number, line in enumerate(lines):
            if line.startswith(beginning):
                told = " ".join(line.strip() for line in lines[number : number + 2]) if beginning == UNTOLD else line
                missing = NOT_FREE.match(told) and ("Unable to locate" in told or "no installation candidate" in told)
                return f"{told} (add contrib, non-free and non-free-firmware to the host's apt sources)" if missing else told
    return ""


def package(lines: Sequence[str]) -> str:
    """The package that it is about; empty where that is none, or is not to be told."""
    found = (pattern.match(line) for pattern in PACKAGE for line in lines)
    return next((match[1] for match in found if match), "")

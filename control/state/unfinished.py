"""Files of the state that a run had begun to write when it was killed: one may be a key in the clear."""

from __future__ import annotations

import time
from contextlib import suppress

from control.state.fleet import FleetState

SILENT_S = 3600
"""Whoever still writes a file does so more often."""


def drop_unfinished(state: FleetState) -> None:
    """Deletes what `write_atomically` and `seal_file` begin with, where it has not grown for an hour."""
    long_ago = time.time() - SILENT_S
    for path in state.path.rglob(".*.tmp"):
        with suppress(OSError):
            if path.lstat().st_mtime < long_ago:
                path.unlink()

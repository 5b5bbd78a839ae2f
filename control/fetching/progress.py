"""How far a download has come, in words."""

from __future__ import annotations

import logging

PROGRESS = logging.getLogger("paddock.progress")
MIB = 1 << 20


class Download:
    """Tells how far a download has come, a word every tenth of it, or every 16 MiB where nobody knows how much it is. What has less
    than 10 MiB is there before anybody has read that."""

    def __init__(self) -> None:
        self.told = -1

    def __call__(self, name: str, done: int, total: int) -> None:
        if 0 < total < 10 * MIB:
            return
        step = done * 10 // total if total else done // (16 * MIB)
        if step != self.told:
            self.told = step
            PROGRESS.info("%s: %d MiB%s", name, done // MIB, f" of {total // MIB}" if total else "")

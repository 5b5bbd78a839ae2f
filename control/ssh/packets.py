"""What a host sends before anybody knows who it is, bounded: paramiko reads a greeting without end and packets of 4 GiB into memory.

Imported before whatever connects: from then on every transport of paramiko's reads no more than this.
"""

from __future__ import annotations

import time
from typing import Any

from paramiko import SSHException, transport
from paramiko.packet import Packetizer

from inventory import bounds
from inventory.bounds import size_words, time_words


class Bounded(Packetizer):
    """Reads packets (RFC 4253, 6.1), and before them the lines of a greeting (4.2)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._greeting, self._began = 0, time.monotonic()

    def _read_timeout(self, timeout: float) -> bytes:
        """A piece of the greeting: nothing else is read by lines."""
        piece: bytes = super()._read_timeout(timeout)  # type: ignore[misc]
        self._greeting += len(piece)
        if self._greeting > bounds.SSH_GREETING.size:
            raise SSHException(f": its greeting is longer than {size_words(bounds.SSH_GREETING.size)}")
        if time.monotonic() - self._began > (bounds.SSH_GREETING.seconds or 0):
            raise SSHException(f": its greeting has not ended within {time_words(bounds.SSH_GREETING.seconds)}")
        return piece

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > bounds.SSH_PACKET.size:
            raise SSHException(f"it sends a packet that is larger than {size_words(bounds.SSH_PACKET.size)}")
        read: bytes = super().read_all(n, check_rekey)
        return read


transport.Packetizer = Bounded  # type: ignore[attr-defined,assignment]

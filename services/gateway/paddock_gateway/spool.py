"""Rows on disk while the database is away: one JSON line a batch, the oldest first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from paddock_gateway.store.database import COLUMNS, Batch, StoreError

CHUNK = 65536


class SpoolFull(Exception):
    """The batch finds no room: the spool's own, or the disk's."""


class Spool:
    """An append-only file. A line that a kill tore is cut off when it is opened. Every call may wait for the disk."""

    def __init__(self, path: Path, at_most: int) -> None:
        """`at_most` bytes. Raises StoreError."""
        self._path, self._at_most = path, at_most
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.size = self._whole()
            os.ftruncate(self._file, self.size)
        except OSError as error:
            raise StoreError(f"{path}: the spool of the request log cannot be opened: {error.strerror}") from None
        self._read = 0

    def _whole(self) -> int:
        """Bytes up to the end of the last whole line."""
        end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - CHUNK)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    @property
    def empty(self) -> bool:
        return self.size == self._read

    def append(self, batch: Batch) -> None:
        """On disk when it returns. Raises SpoolFull, and has then written nothing."""
        line = orjson.dumps((batch.id, batch.rows)) + b"\n"
        if self.size + len(line) > self._at_most:
            raise SpoolFull(f"{self._path} is at its limit of {self._at_most >> 20} MiB (log.spool_mib)")
        try:
            written = os.pwrite(self._file, line, self.size)
            if written < len(line):
                raise OSError(0, "the disk is full")
            os.fdatasync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self.size)
            raise SpoolFull(f"{self._path}: {error.strerror}") from None
        self.size += len(line)

    def batches(self) -> Iterator[Batch | None]:
        """From the first that was not `forget`-ten; None for a line that is no batch. Call `forget` after each that is done."""
        at = self._read
        while at < self.size:
            line = self._line(at)
            self._next = at + len(line)
            yield _batch(line)
            at = self._next

    def forget(self) -> None:
        """The batch that `batches` gave last. An empty spool takes no room."""
        self._read = self._next
        if self.empty:
            os.ftruncate(self._file, 0)
            self.size = self._read = 0

    def _line(self, at: int) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.pread(self._file, CHUNK, at + len(line))
            newline = chunk.find(b"\n")
            line += chunk if newline < 0 else chunk[: newline + 1]
            if not chunk:
                break
        return line

    def close(self) -> None:
        os.close(self._file)


def _batch(line: bytes) -> Batch | None:
    try:
        said, rows = orjson.loads(line)
        batch = Batch(int(said), [tuple(row) for row in rows])
    except (ValueError, TypeError):
        return None
    return batch if all(len(row) == len(COLUMNS) for row in batch.rows) else None

"""What the gateway says on stderr: a JSON line for each message and, where the settings ask for it, one for each request.

A line of a request has its id, user, path, model, back end, status, times and tokens; never a prompt, an answer, a query or a key. Lines
are written by a thread: a journal that is slow makes nobody wait, and what finds no room is counted and said later.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

import orjson

from paddock_gateway.contract import Row

ROOM = 8192
"""Lines that may wait to be written."""
LONGEST = 16384
"""Characters of a message."""
SECRETS = re.compile(r"(?i)\b(sk-|bearer\s+|(?:api[_-]?)?key=)[^\s\"'&,;)}\]]+")
"""What looks like a key: nothing here writes one, but a message of a library may quote a request."""
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""sd-daemon(3): `<6>` before a line is its priority in the journal."""

REQUESTS = logging.getLogger("paddock_gateway.requests")
AIOHTTPS = logging.getLogger("aiohttp.access")
"""Its lines have the query, and say nothing that a line of REQUESTS does not."""


class AccessLog:
    """An Observer that writes a line for each answer."""

    def answered(self, row: Row) -> None:
        if REQUESTS.disabled:
            return
        record = logging.LogRecord(REQUESTS.name, logging.INFO, "", 0, "answered", (), None)  # info() looks for its caller: slow
        record.request = row
        REQUESTS.handle(record)

    def retried(self, backend: str) -> None:
        REQUESTS.warning("Back end %s failed a request, which goes to another one.", backend)


@contextmanager
def written(*, requests: bool, level: int = logging.INFO, to: TextIO | None = None) -> Iterator[None]:
    """All logging goes to stderr in JSON meanwhile; at the end, what waits is written. Without `requests` no line for each answer."""
    stream = to or sys.stderr
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    writer = logging.StreamHandler(stream)
    writer.setFormatter(_Lines(journal=_is_journal(stream)))
    entry = _Entry(waiting)
    listener = QueueListener(waiting, writer)
    root = logging.getLogger()
    before, level_before, requests_before = root.handlers[:], root.level, (REQUESTS.disabled, AIOHTTPS.disabled)
    root.handlers[:] = [entry]
    root.setLevel(level)
    REQUESTS.disabled, AIOHTTPS.disabled = not requests, True
    listener.start()
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level_before)
        REQUESTS.disabled, AIOHTTPS.disabled = requests_before
        entry.tell_dropped()
        listener.stop()


def _is_journal(stream: TextIO) -> bool:
    """systemd says in JOURNAL_STREAM which device and inode its journal's socket is: systemd.exec(5)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Entry(QueueHandler):
    def __init__(self, waiting: queue.SimpleQueue[Any]) -> None:
        super().__init__(waiting)
        self._waiting = waiting
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """As it is: the thread formats it. Arguments are names and numbers, which do not change."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() >= ROOM:
            self.dropped += 1
            return
        self._waiting.put_nowait(record)
        if self.dropped:
            self.tell_dropped()

    def tell_dropped(self) -> None:
        if not self.dropped:
            return
        said = logging.makeLogRecord(
            {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "%d lines were lost", "args": (self.dropped,)}
        )
        self._waiting.put_nowait(said)
        self.dropped = 0


class _Lines(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        row = getattr(record, "request", None)
        if isinstance(row, Row):
            line |= _request(row)
        else:
            line |= {"logger": record.name, "message": _clean(record.getMessage())}
        if record.exc_info:
            line["exception"] = _clean(self.formatException(record.exc_info))
        text = orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS, default=str).decode()
        return f"<{PRIORITIES.get(record.levelno, 6)}>{text}" if self._journal else text


def _request(row: Row) -> dict[str, Any]:
    return {
        "message": "answered",
        "request_id": row.request_id,
        "user": row.username,
        "path": _clean_again(row.path.partition("?")[0]),
        "model": _clean_again(row.model),
        "backend": row.backend,
        "status": row.status_code,
        "duration_ms": round(row.duration_ms, 1),
        "first_token_ms": None if row.ttft_ms is None else round(row.ttft_ms, 1),
        "queued_ms": round(row.queued_ms, 1),
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "request_bytes": row.request_bytes,
        "response_bytes": row.response_bytes,
    }


def _clean(text: str) -> str:
    """Without what looks like a key, not too long, and text that JSON can have."""
    return SECRETS.sub(lambda found: found[1] + "…", text[:LONGEST]).encode(errors="replace").decode()


_clean_again = lru_cache(1024)(_clean)
"""For paths and models: few, and each in many lines."""

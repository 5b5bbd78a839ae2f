"""The request log: rows wait in memory for a quarter of a second, then go to the database together, or to the spool while it is away."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from paddock_gateway.contract import Row
from paddock_gateway.settings import Log
from paddock_gateway.spool import Spool, SpoolFull
from paddock_gateway.store.database import Batch, DatabaseAway, Rows

logger = logging.getLogger(__name__)

WAITING = 20_000
"""Rows in memory, some 10 MiB of them."""
BATCH = 1000
REPLAYED = 20
"""Batches of the spool between two looks at what waits in memory."""
AGAIN_S = 1.0
"""So often a database that is away is tried."""
DAY_S = 86_400
DELETED = 1000
"""Rows that are deleted in one go."""
TIDY_S = 600.0
LONGEST = 512
"""Characters of a text in a row."""
MOST = 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogFigures:
    """For metrics. Rows since the start, but for `waiting` (rows now) and `spool_bytes` (on disk now)."""

    written: int
    spooled: int
    dropped: int
    deleted: int
    waiting: int
    spool_bytes: int
    away: bool


class BatchLog:
    """contract.RequestLog. Made by store.opening.open_store, which starts it."""

    def __init__(self, rows: Rows, spool: Spool, settings: Log) -> None:
        self._rows, self._spool, self._settings = rows, spool, settings
        self._waiting: deque[Row] = deque()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._written = self._spooled = self._dropped = self._deleted = 0
        self._away = self._dropping = False
        self._next_try = 0.0
        self._batch = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_writing()), asyncio.create_task(self._keep_tidy())]

    def add(self, row: Row) -> None:
        if len(self._waiting) >= WAITING:
            self._drop(1, f"{WAITING} rows wait in memory already")
        else:
            self._waiting.append(row)

    def figures(self) -> LogFigures:
        waiting, size = len(self._waiting), self._spool.size
        return LogFigures(self._written, self._spooled, self._dropped, self._deleted, waiting, size, self._away)

    async def close(self) -> None:
        """Writes what waits, to the database or the spool, which stays open."""
        self._closing.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()
        await self._rows.close()
        self._disk.shutdown(wait=False)

    async def _keep_writing(self) -> None:
        while not self._closing.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._settings.every_s)
            try:
                await self._flush()
            except Exception:  # a fault of this program's own must not end the log
                logger.exception("The request log could not be written")

    async def _flush(self) -> None:
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._batch = _batch_id(self._batch)
            await self._keep(Batch(self._batch, [_values(row) for row in rows]))
        if not self._spool.empty and time.monotonic() >= self._next_try:
            await self._replay()

    async def _keep(self, batch: Batch) -> None:
        """To the database, or behind what is in the spool already."""
        if self._spool.empty and time.monotonic() >= self._next_try and await self._write(batch, again=False):
            return
        try:
            await self._on_disk(lambda: self._spool.append(batch))
            self._spooled += len(batch.rows)
        except SpoolFull as error:
            self._drop(len(batch.rows), str(error))

    async def _replay(self) -> None:
        batches = self._spool.batches()
        for _ in range(REPLAYED):
            batch = await self._on_disk(lambda: next(batches, EMPTY))
            if batch is EMPTY:
                return
            if batch is None:
                logger.error("A line of the spool is damaged: its rows are lost")
                self._dropped += 1
            elif not await self._write(batch, again=True):
                return
            await self._on_disk(self._spool.forget)

    async def _write(self, batch: Batch, *, again: bool) -> bool:
        """False where the database is away."""
        try:
            await self._rows.write(batch, again=again)
        except DatabaseAway as error:
            if not self._away:
                logger.warning("The request log goes to the spool: %s", error)
            self._away, self._next_try = True, time.monotonic() + AGAIN_S
            return False
        except ValueError as error:
            self._drop(len(batch.rows), f"the database does not take them: {error}")
            return True
        except Exception:  # a fault of this program's own, or of the driver's, loses no row
            logger.exception("The request log goes to the spool")
            self._away, self._next_try = True, time.monotonic() + AGAIN_S
            return False
        if self._away:
            logger.warning("The request log goes to the database again")
        self._away = self._dropping = False
        self._written += len(batch.rows)
        return True

    def _drop(self, rows: int, why: str) -> None:
        self._dropped += rows
        if not self._dropping:
            self._dropping = True
            logger.error("Rows of the request log are dropped, and counted: %s", why)

    async def _keep_tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            with suppress(DatabaseAway):
                await self.tidy()

    async def tidy(self) -> None:
        """Deletes the rows that are older than the retention, a few at a time. Raises DatabaseAway."""
        before = time.time() - self._settings.retention_days * DAY_S
        while deleted := await self._rows.delete_older(before, DELETED):
            self._deleted += deleted
            await asyncio.sleep(0.05)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


EMPTY = Batch(0, [])


def _batch_id(last: int) -> int:
    """The time in ms and 21 random bits: in the order of time, and no two gateways' the same."""
    return max(last + 1, (time.time_ns() // 1_000_000) << 21 | secrets.randbits(21))


def _values(row: Row) -> tuple[Any, ...]:
    """As COLUMNS has them, and such that any database takes them."""
    return (
        *(_text(row.username), _text(row.path), _text(row.model), _text(row.backend), int(row.status_code)),
        *(float(row.duration_ms), None if row.ttft_ms is None else float(row.ttft_ms), float(row.queued_ms)),
        *(_count(row.prompt_tokens), _count(row.cached_tokens), _count(row.completion_tokens)),
        *(_count(row.request_bytes), _count(row.response_bytes), float(row.created_at), _text(row.request_id)),
    )


def _text(said: str) -> str:
    """Postgres takes no NUL, and neither database half a surrogate pair."""
    if said.isascii() and len(said) <= LONGEST and "\0" not in said:
        return said
    return said[:LONGEST].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _count(said: int) -> int:
    return max(0, min(int(said), MOST))

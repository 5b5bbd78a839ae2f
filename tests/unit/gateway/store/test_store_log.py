"""The request log: one row a request, whatever becomes of the database in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from paddock_gateway import request_log
from paddock_gateway.contract import Row
from paddock_gateway.request_log import WAITING, BatchLog
from paddock_gateway.settings import Configuration, Log
from paddock_gateway.spool import Spool
from paddock_gateway.store import sqlite
from paddock_gateway.store.database import COLUMNS, Batch, Rows
from paddock_gateway.store.opening import open_database, open_store

WRITER = """
import asyncio, sys, time
import msgspec
from paddock_gateway.contract import Row
from paddock_gateway.settings import Configuration
from paddock_gateway.store.opening import open_store

async def main():
    store = await open_store(msgspec.json.decode(sys.stdin.buffer.read(), type=Configuration))
    number = 0
    while True:
        for _ in range(100):
            store.log.add(Row("ann", "/", "m", "b", 200, 1.0, None, 0.0, number, 0, 0, 0, 0, time.time()))
            number += 1
        await asyncio.sleep(0.01)
        print(store.log.figures().written, flush=True)

asyncio.run(main())
"""


def row(number: int = 0, **change: Any) -> Row:
    said: dict[str, Any] = {
        "username": "ann",
        "path": "/v1/chat/completions",
        "model": "qwen",
        "backend": "one",
        "status_code": 200,
        "duration_ms": 12.5,
        "ttft_ms": 3.25,
        "queued_ms": 0.5,
        "prompt_tokens": number,
        "cached_tokens": 2,
        "completion_tokens": 3,
        "request_bytes": 4,
        "response_bytes": 5,
        "created_at": time.time(),
        "request_id": f"r{number}",
    }
    return Row(**said | change)


async def rows_of(configuration: Configuration, columns: str = "prompt_tokens") -> list[Any]:
    database = await open_database(configuration)
    try:
        async with database.transaction() as transaction:
            return [tuple(found) for found in await transaction.fetch(f"SELECT {columns} FROM llama_requests ORDER BY batch, number")]
    finally:
        await database.close()


async def until(holds: Callable[[], bool]) -> None:
    async def waited() -> None:
        while not holds():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(waited(), 30)


async def test_every_request_is_one_row_as_it_was(configuration: Configuration) -> None:
    store = await open_store(configuration)
    for number in range(2500):
        store.log.add(row(number, ttft_ms=None, created_at=1796054400.25))
    await store.close()
    found = await rows_of(configuration, ", ".join(COLUMNS))
    assert [each[8] for each in found] == list(range(2500))
    first = found[0]
    assert first[:13] == ("ann", "/v1/chat/completions", "qwen", "one", 200, 12.5, None, 0.5, 0, 2, 3, 4, 5) and first[14] == "r0"
    assert str(first[13]).startswith("2026-11-30 16:00:00.25")
    assert store.log.figures().written == 2500


async def test_a_row_is_in_the_database_soon_and_reads_by_time(on_sqlite: Configuration, tmp_path: Path) -> None:
    store = await open_store(on_sqlite)
    store.log.add(row())
    await until(lambda: store.log.figures().written == 1)
    with sqlite3.connect(tmp_path / "gateway.db") as reading:
        [(age,)] = reading.execute("SELECT julianday('now') - julianday(created_at) FROM llama_requests").fetchall()
    reading.close()
    assert abs(age) < 1
    await store.close()


async def test_text_that_no_database_takes_does_not_stop_the_log(configuration: Configuration) -> None:
    store = await open_store(configuration)
    store.log.add(row(1, model="a\0b", path="\ud800", request_id="\udcff" * 3, username="u" * 10_000))
    store.log.add(row(2, prompt_tokens=2**80, cached_tokens=-1))
    store.log.add(row(3))
    await store.close()
    assert store.log.figures().written == 3
    found = await rows_of(configuration, "model, path, request_id, length(username), prompt_tokens, cached_tokens")
    assert found[0][:4] == ("a\ufffdb", "?", "???", 512)
    assert found[1][4:] == (2**63 - 1, 0)


async def test_no_row_is_lost_or_doubled_while_postgres_is_away(on_postgres: Configuration, server: Any, tmp_path: Path) -> None:
    store = await open_store(on_postgres)
    adding = True

    async def add() -> int:
        number = 0
        while adding:
            store.log.add(row(number))
            number += 1
            await asyncio.sleep(0.001)
        return number

    task = asyncio.create_task(add())
    await until(lambda: store.log.figures().written > 0)
    server.stop()
    try:
        await until(lambda: store.log.figures().spooled > 20)
        assert store.log.figures().away and store.log.figures().spool_bytes > 0
    finally:
        server.start()
    await until(lambda: not store.log.figures().away and store.log.figures().spool_bytes == 0)
    adding = False
    added = await task
    await store.close()
    assert [number for (number,) in await rows_of(on_postgres)] == list(range(added))
    assert store.log.figures().dropped == 0 and (tmp_path / "requests.spool").stat().st_size == 0


class Broken:
    """database.Rows whose driver raises what nobody expects, once."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.raised = rows, False

    async def write(self, batch: Batch, *, again: bool) -> None:
        if not self.raised:
            self.raised = True
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        await self.rows.write(batch, again=again)

    async def delete_older(self, before: float, at_most: int) -> int:
        return await self.rows.delete_older(before, at_most)

    async def close(self) -> None:
        await self.rows.close()


async def test_no_row_is_lost_by_an_error_that_nobody_expects(
    on_sqlite: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "AGAIN_S", 0.0)
    spool = Spool(tmp_path / "requests.spool", 1 << 20)
    log = BatchLog(Broken(sqlite.SqliteRows(tmp_path / "gateway.db")), spool, Log(every_s=0.01))
    log.start()
    log.add(row(1))
    await until(lambda: log.figures().written == 1)
    await log.close()
    assert log.figures().spooled == 1 and spool.empty
    spool.close()


async def test_rows_of_an_outage_wait_on_disk_for_the_next_start(on_postgres: Configuration, server: Any, tmp_path: Path) -> None:
    store = await open_store(on_postgres)
    server.stop()
    try:
        for number in range(10):
            store.log.add(row(number))
        await store.close()
    finally:
        server.start()
    kept = (tmp_path / "requests.spool").read_bytes()
    assert kept
    store = await open_store(on_postgres)
    await until(lambda: store.log.figures().written == 10)
    await store.close()
    (tmp_path / "requests.spool").write_bytes(kept + b'[17, [["ann", "/v1')  # a kill came before the spool was emptied, and tore a line
    store = await open_store(on_postgres)
    await until(lambda: store.log.figures().spool_bytes == 0)
    await store.close()
    assert [number for (number,) in await rows_of(on_postgres)] == list(range(10))


async def test_a_full_spool_drops_rows_and_says_so_once(on_sqlite: Configuration, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = sqlite.SqliteRows(tmp_path / "gateway.db")
    spool = Spool(tmp_path / "small.spool", 2000)
    log = BatchLog(rows, spool, Log(every_s=0.01))
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    rows._connection.execute("PRAGMA busy_timeout = 20")
    other.execute("BEGIN IMMEDIATE")  # who keeps the database from being written
    log.start()
    for number in range(30):
        log.add(row(number))
        await asyncio.sleep(0.005)
    await until(lambda: log.figures().spooled + log.figures().dropped == 30)
    dropped = log.figures().dropped
    assert 0 < dropped < 30 and spool.size <= 2000
    assert caplog.text.count("Rows of the request log are dropped, and counted") == 1
    other.execute("ROLLBACK")
    await until(lambda: log.figures().spool_bytes == 0)
    await log.close()
    spool.close()
    assert len(await rows_of(on_sqlite)) == 30 - dropped


async def test_a_full_disk_sends_rows_to_the_spool(on_sqlite: Configuration, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, spool = sqlite.SqliteRows(tmp_path / "gateway.db"), Spool(tmp_path / "log.spool", 1 << 20)
    log = BatchLog(rows, spool, Log(every_s=0.01))
    rows._connection.execute("PRAGMA max_page_count = 1")
    log.start()
    for number in range(2000):
        log.add(row(number))
    await until(lambda: log.figures().spooled == 2000)
    assert "the disk is full: make room on it" in caplog.text
    rows._connection.execute("PRAGMA max_page_count = 1000000")
    await until(lambda: log.figures().spool_bytes == 0)
    await log.close()
    spool.close()
    assert [number for (number,) in await rows_of(on_sqlite)] == list(range(2000))


async def test_memory_is_bounded_while_nothing_can_be_written(on_sqlite: Configuration, tmp_path: Path) -> None:
    rows, spool = sqlite.SqliteRows(tmp_path / "gateway.db"), Spool(tmp_path / "log.spool", 1 << 20)
    log = BatchLog(rows, spool, Log())
    for _ in range(WAITING + 5):
        log.add(row())
    assert (log.figures().waiting, log.figures().dropped) == (WAITING, 5)
    log._waiting.clear()
    await log.close()
    spool.close()


async def test_rows_older_than_the_retention_go(configuration: Configuration) -> None:
    store = await open_store(configuration)
    for number in range(1200):
        store.log.add(row(number, created_at=time.time() - 91 * 86_400))
    for number in range(3):
        store.log.add(row(number, created_at=time.time() - 89 * 86_400))
    await until(lambda: store.log.figures().written == 1203)
    await store.log.tidy()
    assert store.log.figures().deleted == 1200
    await store.close()
    assert len(await rows_of(configuration)) == 3


def test_a_kill_loses_what_was_not_written_yet_and_nothing_else(configuration: Configuration) -> None:
    environment = {"PYTHONPATH": ":".join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert child.stdin and child.stdout
    child.stdin.write(msgspec.json.encode(configuration))
    child.stdin.close()
    while (written := int(child.stdout.readline())) < 1000:
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    numbers = [number for (number,) in asyncio.run(rows_of(configuration))]
    assert numbers == list(range(len(numbers))) and len(numbers) >= written


def test_a_spool_gives_back_what_it_was_given_in_order(tmp_path: Path) -> None:
    from paddock_gateway.store.database import Batch

    values = tuple(range(len(COLUMNS)))
    spool = Spool(tmp_path / "spool", 1 << 20)
    for number in range(3):
        spool.append(Batch(number, [values] * 700))  # longer than what is read at once
    spool.close()
    with (tmp_path / "spool").open("ab") as file:
        file.write(b"no batch\n[1]\n[2, [[3]]]\n[4, [[")
    spool = Spool(tmp_path / "spool", 1 << 20)
    found = []
    for batch in spool.batches():
        found.append(batch and (batch.id, batch.rows == [values] * 700))
        spool.forget()
    assert found == [(0, True), (1, True), (2, True), None, None, None]
    assert spool.empty and (tmp_path / "spool").stat().st_size == 0
    spool.close()

"""Limits that gateways share: what is lent is never more than there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from paddock_gateway.errors import Failure
from paddock_gateway.settings import Configuration
from paddock_gateway.store.lending import SharedLimits
from paddock_gateway.store.opening import open_database, open_store


async def test_gateways_together_are_lent_no_more_than_the_limit(on_postgres: Configuration) -> None:
    databases = [await open_database(on_postgres) for _ in range(3)]
    lenders = [SharedLimits(database) for database in databases]
    taken = await asyncio.gather(*(lenders[number % 3].lend("ann", "requests", 3600, 50, 7) for number in range(30)))
    assert sum(taken) == 50 and sorted(taken)[-8:] == [1, *[7] * 7]
    for database in databases:
        await database.close()


async def test_what_is_given_back_can_be_lent_again(on_postgres: Configuration) -> None:
    store = await open_store(on_postgres)
    lender = store.lender
    assert lender
    assert [await lender.lend("ann", "tokens", 3600, 100, 80) for _ in range(3)] == [80, 20, 0]
    await lender.give_back("ann", "tokens", 3600, 30)
    assert [await lender.lend("ann", "tokens", 3600, 100, 80) for _ in range(2)] == [30, 0]
    await lender.give_back("ann", "tokens", 3600, 1000)
    assert await lender.lend("ann", "tokens", 3600, 100, 200) == 100
    assert await lender.lend("bob", "tokens", 3600, 100, 1) == 1
    assert await lender.lend("ann", "requests", 3600, 100, 1) == 1
    assert await lender.lend("ann", "tokens", 60, 100, 1) == 1
    await store.close()


async def test_what_was_lent_counts_for_the_window(on_postgres: Configuration) -> None:
    store = await open_store(on_postgres)
    lender = store.lender
    assert lender
    assert await lender.lend("ann", "requests", 1, 5, 5) == 5
    assert await lender.lend("ann", "requests", 1, 5, 5) == 0
    while not (again := await lender.lend("ann", "requests", 1, 5, 5)):
        await asyncio.sleep(0.05)
    assert again == 5
    await store.close()


async def test_what_counts_no_more_is_removed_though_its_user_never_comes_back(on_postgres: Configuration) -> None:
    store = await open_store(on_postgres)
    lender = store.lender
    assert lender
    for user in ("ann", "bob"):
        assert await lender.lend(user, "requests", 1, 5, 5) == 5
    assert await lender.lend("cid", "requests", 3600, 5, 5) == 5
    database = await open_database(on_postgres)
    async with database.transaction(write=True) as transaction:
        await transaction.fetch("UPDATE lendings SET bucket = bucket - 120 WHERE window_s = 1")
    lender._tidy_at = 0.0
    assert await lender.lend("dan", "requests", 60, 5, 1) == 1
    async with database.transaction() as transaction:
        left = await transaction.fetch("SELECT subject FROM lendings ORDER BY subject")
    assert [subject for (subject,) in left] == ["cid", "dan"]
    await database.close()
    await store.close()


async def test_a_database_that_is_away_is_told_with_a_time(on_postgres: Configuration, server: Any) -> None:
    store = await open_store(on_postgres)
    assert store.lender
    server.stop()
    try:
        with pytest.raises(Failure) as failure:
            await store.lender.lend("ann", "requests", 60, 5, 5)
        assert failure.value.status == 503 and failure.value.headers
    finally:
        server.start()
        await store.close()


async def test_one_gateway_on_sqlite_needs_no_lender(on_sqlite: Configuration) -> None:
    store = await open_store(on_sqlite)
    assert store.lender is None
    await store.close()

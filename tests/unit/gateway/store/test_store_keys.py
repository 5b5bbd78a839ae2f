"""Who is let in: users, their keys, and the table in memory that follows the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from paddock_gateway.errors import Failure
from paddock_gateway.pepper import digest
from paddock_gateway.settings import Configuration, Limits, User
from paddock_gateway.store.database import DatabaseAway
from paddock_gateway.store.opening import Store, open_database, open_store, open_users

PEPPER = b"p" * 40
DECLARED = "sk-declared-key-of-bob"


@asynccontextmanager
async def opened(configuration: Configuration, **change: Any) -> AsyncIterator[Store]:
    store = await open_store(msgspec.structs.replace(configuration, **change))
    try:
        yield store
    finally:
        await store.close()


def bob(**more: Any) -> User:
    return User(name="bob", digest=digest(PEPPER, DECLARED), **more)


async def refused(store: Store, key: str) -> tuple[int, str]:
    with pytest.raises(Failure) as failure:
        await store.keys.account(key)
    return failure.value.status, failure.value.message


async def test_a_new_key_lets_its_user_in_with_what_was_said(configuration: Configuration) -> None:
    async with opened(configuration, default_limits=Limits(requests=7)) as store:
        key, record = await store.users.create("ann", label="laptop", models=["qwen"], limits=Limits(tokens=100), weight=2.5, admin=True)
        account = store.keys.known(key)
        assert account is not None
        assert (account.user, account.key, account.models, account.admin) == ("ann", record.id, frozenset({"qwen"}), True)
        assert (account.limits, account.weight) == (Limits(tokens=100), 2.5)
        plain, _ = await store.users.create("eve")
        assert (await store.keys.account(plain)).limits == Limits(requests=7)
        assert (await store.keys.account(plain)).models is None


async def test_only_the_digest_of_a_key_is_kept(configuration: Configuration) -> None:
    async with opened(configuration) as store:
        key, record = await store.users.create("ann")
        assert key.startswith("sk-") and len(key) == 46 and record.hint == f"{key[:5]}…{key[-4:]}"
    database = await open_database(configuration)
    async with database.transaction() as reading:
        rows = await reading.fetch("SELECT * FROM keys")
    await database.close()
    assert key not in repr(rows) and digest(PEPPER, key) in repr(rows)


async def test_a_key_that_another_process_made_works_at_once(configuration: Configuration) -> None:
    async with opened(configuration) as store, open_users(configuration, PEPPER) as command:
        key, _ = await command.create("ann")
        assert (await store.keys.account(key)).user == "ann"


@pytest.mark.parametrize("change", ["revoke", "disable key", "disable user", "delete user", "rotate"])
async def test_a_key_that_another_process_takes_away_is_refused(configuration: Configuration, change: str) -> None:
    async with opened(configuration) as store, open_users(configuration, PEPPER) as command:
        key, record = await command.create("ann")
        await store.keys.account(key)
        if change == "revoke":
            await command.revoke(record.id)
        elif change == "disable key":
            await command.set_disabled(key, True)
        elif change == "disable user":
            await command.set_user_disabled("ann", True)
        elif change == "delete user":
            await command.delete_user("ann")
        else:
            new, _ = await command.rotate(record.id)
            assert (await store.keys.account(new)).user == "ann"
        while store.keys.known(key):  # no call but the table's own look
            await asyncio.sleep(0.05)
        assert (await refused(store, key))[0] == 401
        assert await store.users.list() == await command.list()


async def test_what_is_disabled_can_be_enabled(configuration: Configuration) -> None:
    async with opened(configuration) as store:
        key, record = await store.users.create("ann")
        assert (await store.users.set_disabled(record.id, True)).disabled
        assert "disabled" in (await refused(store, key))[1]
        await store.users.set_disabled(record.id, False)
        await store.users.set_user_disabled("ann", True)
        assert (await store.users.show(key)).disabled
        assert "disabled" in (await refused(store, key))[1]
        await store.users.set_user_disabled("ann", False)
        assert (await store.keys.account(key)).key == record.id


async def test_a_key_ends_when_it_expires_without_a_look_at_the_database(on_sqlite: Configuration) -> None:
    async with opened(on_sqlite) as store:
        key, _ = await store.users.create("ann", expires=time.time() + 0.2)
        assert store.keys.known(key)
        await asyncio.sleep(0.25)
        assert store.keys.known(key) is None
        assert await refused(store, key) == (401, "This key has expired. Give one as `Authorization: Bearer sk-…` or `x-api-key`.")


@pytest.mark.parametrize("key", ["", "sk-", "x" * 10_000, "\udcff\ud800", "' OR 1=1 --", "sk-\0"])
async def test_what_is_no_key_is_refused(configuration: Configuration, key: str) -> None:
    async with opened(configuration) as store:
        assert store.keys.known(key) is None
        assert (await refused(store, key))[0] == 401


async def test_a_flood_of_unknown_keys_asks_the_database_a_few_times(on_sqlite: Configuration) -> None:
    async with opened(on_sqlite) as store:
        looks = 0
        look = store.keys._look

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await look()

        store.keys._look = counted  # type: ignore[method-assign]
        answers = await asyncio.gather(*(store.keys.account(f"sk-{number}") for number in range(1500)), return_exceptions=True)
        statuses = [answer.status for answer in answers if isinstance(answer, Failure)]
        assert len(statuses) == 1500 and set(statuses) <= {401, 503}
        assert looks < 50


async def test_who_declares_a_user_is_the_configuration(configuration: Configuration) -> None:
    async with opened(configuration, users=(bob(models=("qwen",), weight=3.0, admin=True),)) as store:
        account = store.keys.known(DECLARED)
        assert account and (account.user, account.models, account.weight, account.admin) == ("bob", frozenset({"qwen"}), 3.0, True)
        [record] = await store.users.list()
        assert record.declared and record == await store.users.show(DECLARED) == await store.users.show(record.id)
        for change in (
            store.users.create("bob"),
            store.users.revoke(record.id),
            store.users.rotate(DECLARED),
            store.users.set_disabled(record.id, True),
            store.users.set_user_disabled("bob", True),
            store.users.delete_user("bob"),
        ):
            with pytest.raises(Failure, match="The inventory declares") as failure:
                await change
            assert failure.value.status == 409


async def test_who_left_the_inventory_is_refused_and_who_was_made_at_run_time_stays(configuration: Configuration) -> None:
    async with opened(configuration, users=(bob(),)) as store:
        ann, _ = await store.users.create("ann")
    async with opened(configuration) as store:
        assert (await refused(store, DECLARED))[0] == 401
        assert (await store.keys.account(ann)).user == "ann"


async def test_a_declared_user_takes_over_the_name(configuration: Configuration, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(configuration) as store:
        key, _ = await store.users.create("bob", weight=9, models=["default"])
    async with opened(configuration, users=(bob(models=("qwen",), admin=True),)) as store:
        account = await store.keys.account(key)
        assert (account.user, account.weight, account.models) == ("bob", 1.0, frozenset({"qwen"}))
        assert not account.admin  # who made a key under this name has not become an administrator
        assert "'bob' was made at run time and is declared now" in caplog.text
        assert [(user.name, user.keys, user.declared) for user in await store.users.users()] == [("bob", 2, True)]


async def test_a_user_is_made_once_and_changed_by_what_is_said_later(configuration: Configuration) -> None:
    async with opened(configuration) as store:
        first, _ = await store.users.create("ann", models=["qwen"], weight=2)
        with pytest.raises(Failure, match="There is a user 'ann' already"):
            await store.users.create("ann", new=True)
        await store.users.create("ann", limits=Limits(parallel=1))
        account = await store.keys.account(first)
        assert (account.models, account.weight, account.limits) == (frozenset({"qwen"}), 2.0, Limits(parallel=1))
        assert len(await store.users.list("ann")) == 2 and await store.users.list("eve") == []


@pytest.mark.parametrize(
    "said",
    [
        {"user": ""},
        {"user": " "},
        {"user": "a" * 257},
        {"user": "a\nb"},
        {"user": "ann\x1b[2J"},
        {"user": "ann", "label": "\0"},
        {"user": "ann", "weight": 0},
        {"user": "ann", "weight": float("nan")},
        {"user": "ann", "expires": 1.0},
        {"user": "ann", "expires": float("inf")},
        {"user": "ann", "models": [""]},
        {"user": "ann", "models": ["m"] * 1001},
    ],
)
async def test_what_no_user_can_be_is_refused(on_sqlite: Configuration, said: dict[str, Any]) -> None:
    async with opened(on_sqlite) as store:
        with pytest.raises(Failure) as failure:
            await store.users.create(**said)
        assert failure.value.status == 400 and await store.users.users() == []


async def test_what_is_not_there_is_not_found(configuration: Configuration) -> None:
    async with opened(configuration) as store:
        for asked in (
            store.users.show("nope"),
            store.users.revoke("sk-secret-that-nobody-holds"),
            store.users.rotate("nope"),
            store.users.set_disabled("nope", True),
            store.users.set_user_disabled("nope", True),
            store.users.delete_user("nope"),
        ):
            with pytest.raises(Failure) as failure:
                await asked
            assert failure.value.status == 404 and "secret-that" not in failure.value.message


async def test_known_keys_work_while_postgres_is_away_for_the_stated_time(on_postgres: Configuration, server: Any) -> None:
    async with opened(on_postgres, known_keys_s=1.5, users=(bob(),)) as store:
        key, _ = await store.users.create("ann")
        server.stop()
        try:
            assert (await store.keys.account(key)).user == "ann"
            with pytest.raises(Failure) as failure:
                await store.keys.account("sk-unknown")
            assert failure.value.status == 503 and failure.value.headers == {"Retry-After": "5"}
            with pytest.raises(Failure) as failure:
                await store.users.create("eve")
            assert failure.value.status == 503
            while store.keys.known(key):
                await asyncio.sleep(0.05)
            assert store.keys.away_s > 1.5
            assert (await refused(store, key))[0] == 503
            assert store.keys.known(DECLARED)  # it stands in the configuration
        finally:
            server.start()
        await store.keys.refresh()
        assert store.keys.known(key)
        assert (await refused(store, "sk-unknown"))[0] == 401


async def test_a_user_that_cannot_be_read_leaves_the_others_as_they_are(
    configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(configuration) as store:
        ann, _ = await store.users.create("ann")
        eve, _ = await store.users.create("eve")
        database = await open_database(configuration)
        async with database.transaction(write=True) as transaction:
            await transaction.fetch("UPDATE users SET limits = '{requests: many' WHERE name = 'ann'")
            await transaction.fetch("UPDATE changes SET counter = counter + 1")
        await database.close()
        await store.keys.refresh()
        assert store.keys.known(eve)
        assert (await refused(store, ann))[0] == 401
        assert "models or limits of user 'ann' cannot be read" in caplog.text


async def test_a_transaction_that_is_left_in_the_middle_is_undone(configuration: Configuration) -> None:
    database = await open_database(configuration)

    async def stuck() -> None:
        async with database.transaction(write=True) as transaction:
            await transaction.fetch("UPDATE changes SET counter = -99")
            await asyncio.sleep(60)

    task = asyncio.create_task(stuck())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with database.transaction() as transaction:
        assert (await transaction.fetch("SELECT counter FROM changes"))[0][0] >= 0
    with pytest.raises(DatabaseAway):
        async with database.transaction() as transaction:
            await transaction.fetch("SELECT nothing FROM nowhere")
    await database.close()


async def test_the_journal_says_what_became_of_each_key_and_never_the_key(
    configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "paddock_gateway.store.users")
    async with opened(configuration) as store:
        key, made = await store.users.create("ann")
        await store.users.set_disabled(made.id, True)
        await store.users.set_disabled(key, False)
        again, replaced = await store.users.rotate(made.id)
        await store.users.revoke(replaced.id)
        await store.users.delete_user("ann")
    assert caplog.messages == [
        f"Key {made.id} of user 'ann' was made.",
        f"Key {made.id} of user 'ann' was disabled.",
        f"Key {made.id} of user 'ann' was enabled.",
        f"Key {made.id} of user 'ann' was replaced by key {replaced.id}.",
        f"Key {replaced.id} of user 'ann' was revoked.",
        "User 'ann' was changed.",
    ]
    assert key not in caplog.text and again not in caplog.text

"""Users and their keys in the database, with those that the inventory declares beside them."""

from __future__ import annotations

import hmac
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from paddock_gateway.contract import KeyRecord
from paddock_gateway.errors import Failure
from paddock_gateway.keys import declared_id
from paddock_gateway.pepper import digest, hint, new_key
from paddock_gateway.settings import Configuration, Limits, User
from paddock_gateway.store.database import Database, DatabaseAway, Transaction

logger = logging.getLogger(__name__)

LONGEST = 256
"""Characters of a name or label."""
MOST_MODELS = 1000

KEYS = """
    SELECT keys.id, keys.username, keys.label, keys.hint, users.models, users.limits, users.weight, users.admin, keys.created, keys.expires,
    keys.disabled, users.disabled FROM keys JOIN users ON users.name = keys.username WHERE keys.revoked IS NULL
"""


@dataclass(frozen=True, slots=True)
class UserRecord:
    name: str
    models: tuple[str, ...] | None
    limits: Limits | None
    """None: the configuration's default_limits."""
    weight: float
    admin: bool
    disabled: bool
    keys: int
    """That are not revoked."""
    declared: bool


class UserTable:
    """contract.Users, and what the commands do with users. `changed` is called after each change: the gateway's KeyTable.refresh."""

    def __init__(
        self, database: Database, pepper: bytes, configuration: Configuration, changed: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._database, self._pepper, self._changed = database, pepper, changed
        self._declared = {user.name: user for user in configuration.users}

    async def create(
        self,
        user: str,
        *,
        label: str = "",
        models: Sequence[str] | None = None,
        limits: Limits | None = None,
        weight: float | None = None,
        expires: float | None = None,
        admin: bool = False,
        new: bool = False,
    ) -> tuple[str, KeyRecord]:
        """`new`: the user must not exist yet (409)."""
        _check(user, label, models, weight, expires)
        if user in self._declared:
            raise Failure(409, f"The inventory declares user {user!r}: change it there, or take another name.", "user_declared")
        key = new_key()
        async with self._change() as change:
            made = await change.fetch(
                "INSERT INTO users (name, models, limits, weight, admin, disabled, created) VALUES ($1, $2, $3, $4, $5, $6, $7) "
                "ON CONFLICT (name) DO NOTHING RETURNING name",
                *(user, _json(models), _json(limits), 1.0 if weight is None else float(weight), admin, False, time.time()),
            )
            if not made and new:
                raise Failure(409, f"There is a user {user!r} already: `keys create --user` gives it another key.", "user_exists")
            if not made:
                await change.fetch(
                    "UPDATE users SET models = coalesce($2, models), limits = coalesce($3, limits), weight = coalesce($4, weight), "
                    "admin = admin OR $5 WHERE name = $1",
                    *(user, _json(models), _json(limits), None if weight is None else float(weight), admin),
                )
            record = await self._insert(change, key, user, label, expires)
        await self._tell("Key %s of user %r was made.", record.id, user)
        return key, record

    async def list(self, user: str | None = None) -> Sequence[KeyRecord]:
        found = [_of_inventory(each) for each in self._declared.values() if user in (None, each.name)]
        async with self._read() as reading:
            rows = await reading.fetch(f"{KEYS} AND (CAST($1 AS text) IS NULL OR keys.username = $1) ORDER BY keys.created, keys.id", user)
        return [*found, *(_record(row) for row in rows)]

    async def show(self, which: str) -> KeyRecord:
        for user in self._declared.values():
            if which == declared_id(user.name) or hmac.compare_digest(digest(self._pepper, which), user.digest):
                return _of_inventory(user)
        async with self._read() as reading:
            return await self._found(reading, which)

    async def revoke(self, which: str) -> KeyRecord:
        await self._refuse_declared(which)
        async with self._change() as change:
            record = await self._found(change, which)
            await change.fetch("UPDATE keys SET revoked = $2 WHERE id = $1", record.id, time.time())
        await self._tell("Key %s of user %r was revoked.", record.id, record.user)
        return record

    async def set_disabled(self, which: str, disabled: bool) -> KeyRecord:
        await self._refuse_declared(which)
        async with self._change() as change:
            record = await self._found(change, which)
            await change.fetch("UPDATE keys SET disabled = $2 WHERE id = $1", record.id, disabled)
            record = await self._found(change, record.id)
        await self._tell("Key %s of user %r was %s.", record.id, record.user, "disabled" if disabled else "enabled")
        return record

    async def rotate(self, which: str) -> tuple[str, KeyRecord]:
        await self._refuse_declared(which)
        key = new_key()
        async with self._change() as change:
            old = await self._found(change, which)
            if old.disabled or (old.expires is not None and old.expires <= time.time()):
                raise Failure(409, f"Key {old.id} is disabled or has expired: enable it first, or make a new one.", "key_disabled")
            await change.fetch("UPDATE keys SET revoked = $2 WHERE id = $1", old.id, time.time())
            record = await self._insert(change, key, old.user, old.label, old.expires)
        await self._tell("Key %s of user %r was replaced by key %s.", old.id, old.user, record.id)
        return key, record

    async def users(self) -> Sequence[UserRecord]:
        """All of them, by name."""
        async with self._read() as reading:
            rows = await reading.fetch(
                "SELECT name, models, limits, weight, admin, disabled, "
                "(SELECT count(*) FROM keys WHERE username = name AND revoked IS NULL) FROM users"
            )
        found = {name: UserRecord(name, _models(m), _limits(li), w, bool(a), bool(d), n, False) for name, m, li, w, a, d, n in rows}
        for user in self._declared.values():
            others = found[user.name].keys if user.name in found else 0
            found[user.name] = UserRecord(user.name, user.models, user.limits, user.weight, user.admin, False, 1 + others, True)
        return [found[name] for name in sorted(found)]

    async def set_user_disabled(self, name: str, disabled: bool) -> None:
        """Raises Failure 404, 409."""
        await self._on_user(name, "UPDATE users SET disabled = $2 WHERE name = $1 RETURNING name", disabled)

    async def delete_user(self, name: str) -> None:
        """With its keys; its rows in the log stay. Raises Failure 404, 409."""
        await self._on_user(name, "DELETE FROM users WHERE name = $1 RETURNING name")

    async def _on_user(self, name: str, sql: str, *values: Any) -> None:
        if name in self._declared:
            raise Failure(409, f"The inventory declares user {name!r}: change it there.", "user_declared")
        async with self._change() as change:
            if not await change.fetch(sql, name, *values):
                raise Failure(404, f"There is no user {name!r}.", "user_not_found")
        await self._tell("User %r was changed.", name)

    async def _found(self, transaction: Transaction, which: str) -> KeyRecord:
        rows = await transaction.fetch(f"{KEYS} AND (keys.id = $1 OR keys.digest = $2)", which, digest(self._pepper, which))
        if not rows:
            shown = hint(which) if which.startswith("sk-") else repr(which[:LONGEST])
            raise Failure(404, f"There is no key {shown}, or it was revoked.", "key_not_found")
        return _record(rows[0])

    async def _insert(self, change: Transaction, key: str, user: str, label: str, expires: float | None) -> KeyRecord:
        made = secrets.token_hex(6)
        await change.fetch(
            "INSERT INTO keys (id, username, digest, label, hint, created, expires, disabled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *(made, user, digest(self._pepper, key), label, hint(key), time.time(), expires, False),
        )
        return await self._found(change, made)

    async def _refuse_declared(self, which: str) -> None:
        for user in self._declared.values():
            if which == declared_id(user.name) or hmac.compare_digest(digest(self._pepper, which), user.digest):
                raise Failure(409, f"The inventory declares this key of {user.name!r}: change it there.", "key_declared")

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[Transaction]:
        try:
            async with self._database.transaction() as transaction:
                yield transaction
        except DatabaseAway as error:
            raise Failure(503, f"The gateway's database is away: {error}", "database_unavailable", retry_after_s=5) from None

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[Transaction]:
        """Counted, so that every process sees that there was a change. One at a time, over all of them."""
        try:
            async with self._database.transaction(write=True) as transaction:
                await transaction.fetch("UPDATE changes SET counter = counter + 1")
                yield transaction
        except DatabaseAway as error:
            raise Failure(503, f"The gateway's database is away: {error}", "database_unavailable", retry_after_s=5) from None

    async def _tell(self, words: str, *about: object) -> None:
        """For the journal. What was changed is changed, though the table in memory may learn of it later."""
        logger.info(words, *about)
        if self._changed:
            try:
                await self._changed()
            except DatabaseAway:
                return


def _check(user: str, label: str, models: Sequence[str] | None, weight: float | None, expires: float | None) -> None:
    for what, text in (("user", user), ("label", label), *(("models", name) for name in models or ())):
        if len(text) > LONGEST or not text.isprintable() or (not text.strip() and what != "label"):
            raise Failure(400, f"{what}: 1 to {LONGEST} printable characters, please, not {text[:40]!r}.", "invalid_value", param=what)
    if models is not None and len(models) > MOST_MODELS:
        raise Failure(400, f"models: at most {MOST_MODELS} names.", "invalid_value", param="models")
    if weight is not None and not 0 < weight <= 1000:
        raise Failure(400, f"weight: a number above 0, at most 1000, not {weight}.", "invalid_value", param="weight")
    if expires is not None and not (math.isfinite(expires) and time.time() < expires < 253402300800):  # the year 10000
        raise Failure(400, "expires: a time in the future, before the year 10000.", "invalid_value", param="expires")


def _json(said: Sequence[str] | Limits | None) -> str | None:
    if said is None:
        return None
    return msgspec.json.encode(said if isinstance(said, Limits) else list(said)).decode()


def _models(said: str | None) -> tuple[str, ...] | None:
    return None if said is None else msgspec.json.decode(said, type=tuple[str, ...])


def _limits(said: str | None) -> Limits | None:
    return None if said is None else msgspec.json.decode(said, type=Limits)


def _record(row: Sequence[Any]) -> KeyRecord:
    id_, user, label, shown, models, limits, weight, admin, created, expires, disabled, user_disabled = row
    return KeyRecord(
        *(id_, user, label, shown, _models(models), _limits(limits), weight, bool(admin), created, expires),
        disabled=bool(disabled or user_disabled),
        declared=False,
    )


def _of_inventory(user: User) -> KeyRecord:
    return KeyRecord(
        *(declared_id(user.name), user.name, "", "", user.models, user.limits, user.weight, user.admin, 0.0, user.expires),
        disabled=False,
        declared=True,
    )

"""Who holds a key: the table in memory by which requests are let in, and the look that keeps it as the database has it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from paddock_gateway.contract import Account
from paddock_gateway.errors import Failure
from paddock_gateway.pepper import digest
from paddock_gateway.settings import Configuration, Limits, User
from paddock_gateway.store.database import Database, DatabaseAway

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""So often the database is asked whether keys have changed: a key that another process disables works no longer than that."""
GAP_S = 0.05
"""Between two looks, however many ask: what a flood of unknown keys costs the database is 20 small queries a second."""
ANSWER_S = 5.0
"""How long a request with an unknown key waits for the database."""
WAITING = 1000
"""Requests with an unknown key that may wait at once."""
LONGEST_KEY = 256
SLICE = 500
"""Keys that are read in without a pause for others."""


@dataclass(frozen=True, slots=True)
class Held:
    """A key in memory. A declared one does not need the database."""

    digest: str
    account: Account
    expires: float | None
    disabled: bool
    declared: bool


class KeyTable:
    """contract.Keys. Made by store.opening.open_store, which starts its look too."""

    def __init__(self, database: Database, pepper: bytes, configuration: Configuration) -> None:
        self._database, self._pepper, self._configuration = database, pepper, configuration
        self._declared = {user.digest: _declared(user, configuration) for user in configuration.users}
        self._by_name = {held.account.user: held.account for held in self._declared.values()}
        self._by_digest = dict(self._declared)
        self._counter: int | None = None
        self._seen = float("-inf")
        self._away = ""
        self._taken_over: set[str] = set()
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the keys, then keeps looking. Raises DatabaseAway."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        if self._looking:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        _answer(self._waiting, DatabaseAway("the gateway is stopping"))

    @property
    def away_s(self) -> float:
        """Seconds since the database was last seen; for metrics and /readyz. About LOOK_S where all is well."""
        return time.monotonic() - self._seen

    def known(self, key: str) -> Account | None:
        held = self._find(key)
        if held is None or held.disabled or _expired(held) or self._stale(held):
            return None
        return held.account

    async def account(self, key: str) -> Account:
        if not key or len(key) > LONGEST_KEY:
            raise _refused("This is no key of this gateway")
        held = self._find(key)
        if held is None or self._stale(held):
            if len(self._waiting) >= WAITING:
                raise Failure(503, "Too many unknown keys are being looked up. Try again.", "database_unavailable", retry_after_s=1)
            try:
                await asyncio.wait_for(self.refresh(), ANSWER_S)
            except (DatabaseAway, asyncio.TimeoutError):
                raise Failure(
                    503, "Keys cannot be looked up: the gateway's database is away. Try again.", "database_unavailable", retry_after_s=5
                ) from None
            held = self._find(key)
        if held is None:
            raise _refused("This key is unknown, or was revoked")
        if held.disabled:
            raise _refused("This key, or its user, is disabled")
        if _expired(held):
            raise _refused("This key has expired")
        return held.account

    async def refresh(self) -> None:
        """Returns when the table is as the database was after this call. Raises DatabaseAway."""
        if self._looking is None:
            return await self._look()
        if self._looking.done():
            raise DatabaseAway("the gateway is stopping")
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._wanted.set()
        await asked

    def _find(self, key: str) -> Held | None:
        said = digest(self._pepper, key)
        held = self._by_digest.get(said)
        return held if held is not None and hmac.compare_digest(held.digest, said) else None

    def _stale(self, held: Held) -> bool:
        return not held.declared and self.away_s > self._configuration.known_keys_s

    async def _keep_looking(self) -> None:
        while True:
            timer = asyncio.get_running_loop().call_later(LOOK_S, self._wanted.set)  # wait_for could swallow a cancellation (bpo-37658)
            try:
                await self._wanted.wait()
            finally:
                timer.cancel()
            asked, self._waiting = self._waiting, []
            self._wanted.clear()
            failed: DatabaseAway | None = DatabaseAway("the gateway is stopping")
            try:
                await self._look()
                failed = None
            except DatabaseAway as error:
                failed = error
            except Exception as error:  # what cannot be read must not end the looks
                failed = DatabaseAway(f"the keys cannot be read: {error!r}")
            finally:
                _answer(asked, failed)
            self._tell(str(failed or ""))
            await asyncio.sleep(GAP_S)

    def _tell(self, away: str) -> None:
        if away and not self._away:
            logger.warning("Known keys go on to work for %g s without the database: %s", self._configuration.known_keys_s, away)
        elif self._away and not away:
            logger.warning("Keys are read from the database again")
        self._away = away

    async def _look(self) -> None:
        async with self._database.transaction() as transaction:
            counter = (await transaction.fetch("SELECT counter FROM changes"))[0][0]
            rows = None if counter == self._counter else await transaction.fetch(EVERY_KEY)
        if rows is not None:
            table: dict[str, Held] = {}
            for number, row in enumerate(rows, 1):
                try:
                    held = self._held(*row)
                except msgspec.MsgspecError as error:
                    logger.error(
                        "Key %s is refused: models or limits of user %r cannot be read from the database: %s", row[0], row[2], error
                    )
                    continue
                table[held.digest] = held
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            self._by_digest = table | self._declared
            self._counter = counter
        self._seen = time.monotonic()

    def _held(self, key: str, said: str, user: str, expires: float | None, *rest: Any) -> Held:
        disabled, user_disabled, models, limits, weight, admin = rest
        inventory = self._by_name.get(user)
        if inventory is not None:
            if user not in self._taken_over:
                self._taken_over.add(user)
                logger.warning("User %r was made at run time and is declared now: what the inventory says holds for all of its keys", user)
            account = replace(inventory, key=key, admin=bool(admin) and inventory.admin)
        else:
            account = Account(
                user=user,
                key=key,
                models=None if models is None else frozenset(msgspec.json.decode(models, type=tuple[str, ...])),
                limits=self._configuration.default_limits if limits is None else msgspec.json.decode(limits, type=Limits),
                weight=float(weight),
                admin=bool(admin),
            )
        return Held(said, account, expires, bool(disabled or (user_disabled and inventory is None)), declared=False)


EVERY_KEY = """
    SELECT keys.id, keys.digest, keys.username, keys.expires, keys.disabled, users.disabled, users.models, users.limits, users.weight,
    users.admin FROM keys JOIN users ON users.name = keys.username WHERE keys.revoked IS NULL
"""


def declared_id(user: str) -> str:
    """The id of the one key that a declared user has."""
    return f"declared-{user}"


def _declared(user: User, configuration: Configuration) -> Held:
    models = None if user.models is None else frozenset(user.models)
    limits = user.limits or configuration.default_limits
    account = Account(user.name, declared_id(user.name), models, limits, user.weight, user.admin)
    return Held(user.digest, account, user.expires, disabled=False, declared=True)


def _answer(asked: list[asyncio.Future[None]], failed: DatabaseAway | None) -> None:
    for each in asked:
        if each.done():  # its request has gone
            continue
        if failed:
            each.set_exception(failed)
        else:
            each.set_result(None)


def _expired(held: Held) -> bool:
    return held.expires is not None and held.expires <= time.time()


def _refused(why: str) -> Failure:
    return Failure(401, f"{why}. Give one as `Authorization: Bearer sk-…` or `x-api-key`.", "invalid_api_key")

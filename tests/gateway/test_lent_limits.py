"""Limits that gateways share, brute force: the leases of each, a real Postgres, and a clock that runs faster than ours."""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest

from paddock_gateway.contract import Account, Ask, BackendState, Used
from paddock_gateway.errors import Failure
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.settings import Configuration, Limits
from paddock_gateway.store import postgres
from paddock_gateway.store.lending import SharedLimits
from paddock_gateway.store.migrate import migrate
from tests.postgres import PASSWORD, Postgres, running_postgres
from tests.share import WHOLE

T = TypeVar("T")

FASTER = 60
"""A minute of the gateways and of the database is a second here."""
WINDOW_S, LASTS_S = 20, 120
ROUNDS = 10 if WHOLE else 2


class FastLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return time.monotonic() * FASTER


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / FASTER if timeout else timeout)


@dataclass
class Accepted:
    """`asked` is before it was accepted, so nothing is counted for longer than its window. `tokens` is what is held for it while it runs,
    then what it took."""

    asked: float
    tokens: int


@dataclass
class World:
    configuration: Configuration
    chance: random.Random
    limits: Limits
    accepted: list[Accepted] = field(default_factory=list)
    gateways: list[FairDispatcher] = field(default_factory=list)

    async def gateway(self) -> FairDispatcher:
        database = await postgres.PostgresDatabase.open(self.configuration)
        made = FairDispatcher(self.configuration, clock=asyncio.get_running_loop().time, lender=SharedLimits(database))
        made.update("one", BackendState(up=True, slots=1000))
        return made

    async def request(self, at: int, tokens: int, takes: int, lasts_s: float) -> bool:
        clock = asyncio.get_running_loop().time
        account, asked = Account("ann", "key", None, self.limits), clock()
        try:
            place = await self.gateways[at].place(Ask(account, "m", (("one", "m"),), tokens))
        except Failure as failure:
            assert failure.status == 429, failure
            return False
        mine = Accepted(asked, tokens)
        self.accepted.append(mine)
        self.check(clock())
        await asyncio.sleep(lasts_s)
        mine.tokens = takes
        self.gateways[at].done(place, Used(takes), whole=True)
        return True

    def check(self, now: float) -> None:
        within = [each for each in self.accepted if each.asked + self.limits.window_s > now]
        assert len(within) <= (self.limits.requests or len(within))
        assert sum(each.tokens for each in within) <= (self.limits.tokens or 10**9)


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configuration]:
    """Of a database whose clock is FASTER, too."""
    place = tmp_path_factory.mktemp("lent")
    (place / "password").write_text(PASSWORD)
    with running_postgres() as server:
        said = {
            "listen": ["127.0.0.1:8001"],
            "database": server.url("fast"),
            "database_password_file": str(place / "password"),
            "pepper_file": "/nowhere",
            "state": str(place),
            "backends": {"one": {"url": "http://127.0.0.1:8080"}},
            "models": {"m": {"targets": [{"backend": "one", "model": "m"}]}},
        }
        server.sql("CREATE DATABASE fast")
        configuration = msgspec.convert(said, Configuration)
        migrate(configuration)
        _faster(server)
        yield configuration


def _faster(server: Postgres) -> None:
    clock = f"SELECT to_timestamp(extract(epoch FROM pg_catalog.clock_timestamp()) * {FASTER})"
    server.sql(
        "CREATE SCHEMA fast",
        f"CREATE FUNCTION fast.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS '{clock}'",
        "ALTER DATABASE fast SET search_path = fast, public, pg_catalog",
        database="fast",
    )


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateways' patience with the database is measured by the fast clock as well."""
    for name in ("CONNECT_S", "STATEMENT_S"):
        monkeypatch.setattr(postgres, name, 60.0 * FASTER)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_however_gateways_borrow_no_window_of_all_together_has_one_too_many(configured: Configuration, seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(requests=chance.randint(20, 120), tokens=chance.randint(1500, 6000), window_s=WINDOW_S)
    world = World(configured, chance, limits)

    async def main() -> int:
        world.gateways = [await world.gateway() for _ in range(3)]

        async def user() -> int:
            await asyncio.sleep(chance.random() * LASTS_S)
            tokens, kind = chance.randint(1, 300), chance.randrange(3)
            takes = (tokens, chance.randint(0, tokens), 0)[kind]
            return await world.request(chance.randrange(3), tokens, takes, chance.random() * (0, 3, 3 * WINDOW_S)[kind])

        async def dies() -> None:
            """One is killed with what it holds, and another takes its place."""
            await asyncio.sleep(LASTS_S / 2)
            world.gateways[0] = await world.gateway()

        *passed, _ = await asyncio.gather(*(user() for _ in range(600)), dies())
        return sum(map(bool, passed))

    # A window that is full again and again: otherwise nothing is shown.
    assert _run(main()) >= (limits.requests or 0)


@pytest.mark.usefixtures("patient")
def test_the_whole_limit_is_given_though_one_gateway_died_with_a_part_of_it(configured: Configuration) -> None:
    world = World(configured, random.Random(0), Limits(requests=100, window_s=WINDOW_S))
    died_with = 5 - 1  # of a lease of a twentieth, one is used

    async def main() -> tuple[int, int]:
        world.gateways = [await world.gateway() for _ in range(2)]

        async def tries(at: int, number: int) -> int:
            passed = 0
            for _ in range(number):
                try:
                    place = await world.gateways[at].place(Ask(Account("bob", "key", None, world.limits), "m", (("one", "m"),), 1))
                except Failure:
                    continue
                passed += 1
                world.gateways[at].done(place, Used(1), whole=True)
            return passed

        assert await tries(0, 1) == 1
        leases = world.gateways[0]._admission.leases
        assert leases
        for lease in leases._leases.values():  # killed: nothing of it goes back
            assert lease.returned
            lease.returned.cancel()
        first = await tries(1, 120)
        await asyncio.sleep(WINDOW_S * 1.2)
        return first, await tries(1, 120)

    first, second = _run(main())
    assert first == 100 - 1 - died_with and second == 100


def _run(main: Coroutine[Any, Any, T]) -> T:
    loop = FastLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()

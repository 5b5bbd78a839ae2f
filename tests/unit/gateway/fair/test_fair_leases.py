"""Limits that several gateways share."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from fair_world import ONE, ask, configuration, dispatcher, run

from paddock_gateway.contract import Used
from paddock_gateway.errors import Failure
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.fair.leases import Leases
from paddock_gateway.settings import Limits


class Bank:
    """The database's part, in memory: what is lent in each window, answered a moment later."""

    def __init__(self, clock: object = None) -> None:
        self.lent: Counter[tuple[str, str, int]] = Counter()
        self.asked = 0
        self.away = False

    async def lend(self, subject: str, kind: str, window_s: int, limit: int, amount: int) -> int:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.away:
            raise Failure(503, "The database cannot be asked.")
        key = subject, kind, int(asyncio.get_running_loop().time() // window_s)
        amount = min(amount, limit - self.lent[key])
        self.lent[key] += amount
        return amount

    async def give_back(self, subject: str, kind: str, window_s: int, amount: int) -> None:
        await asyncio.sleep(0.001)
        self.lent[subject, kind, int(asyncio.get_running_loop().time() // window_s)] -= amount


def gateway(bank: Bank) -> FairDispatcher:
    one = dispatcher(configuration(ONE), 50, lender=bank)
    one._admission.leases = Leases(bank, one._admission.limiter, asyncio.get_running_loop().time)
    return one


async def tries(gateways: list[FairDispatcher], limits: Limits, number: int, used: int = 100) -> int:
    passed = 0
    for at in range(number):
        one = gateways[at % len(gateways)]
        try:
            place = await one.place(ask(limits=limits))
        except Failure as failure:
            assert failure.status == 429 and failure.retry_after_s is not None and failure.retry_after_s <= 60
            continue
        passed += 1
        one.done(place, Used(used), whole=True)
    return passed


def test_gateways_together_stay_within_the_limit_and_seldom_ask() -> None:
    async def main() -> None:
        bank = Bank()
        gateways = [gateway(bank) for _ in range(3)]
        assert 100 * 0.85 <= await tries(gateways, Limits(requests=100), 300) <= 100
        assert bank.asked < 40
        await asyncio.sleep(60)
        assert 100 * 0.85 <= await tries(gateways, Limits(requests=100), 300) <= 100

    run(main())


def test_one_gateway_alone_has_the_whole_limit() -> None:
    async def main() -> None:
        assert await tries([gateway(Bank())], Limits(requests=7, tokens=100_000), 20) == 7

    run(main())


def test_tokens_that_were_not_used_are_lent_again() -> None:
    async def main() -> None:
        bank = Bank()
        assert await tries([gateway(bank) for _ in range(2)], Limits(tokens=1000), 60, used=20) >= 35
        assert bank.lent["user:ann", "tokens", 0] <= 1000

    run(main())


def test_a_database_that_is_away_stops_nobody_and_each_goes_on_with_its_own_count() -> None:
    async def main() -> None:
        bank = Bank()
        bank.away = True
        assert await tries([gateway(bank)], Limits(requests=5), 20) == 5
        assert bank.asked <= 2

    run(main())


def test_whoever_leaves_while_the_database_is_asked_holds_nothing() -> None:
    async def main() -> None:
        bank = Bank()
        one = gateway(bank)
        limits = Limits(requests=3, tokens=300, parallel=3)
        for moment in (0.0, 0.0005, 0.0015, 0.0025):
            task = asyncio.ensure_future(one.place(ask(limits=limits)))
            await asyncio.sleep(moment)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                one.done(task.result(), Used(), whole=True)
        await one.idle()
        assert one._admission.limiter.in_use() == 0
        assert await tries([one], limits, 9) >= 2

    run(main())


def test_a_gateway_that_stops_gives_back_what_it_has_left() -> None:
    async def main() -> None:
        bank = Bank()
        one, other = gateway(bank), gateway(bank)
        assert await tries([one], Limits(requests=100), 1) == 1
        one.drain()
        await one.idle()
        assert bank.lent["user:ann", "requests", 0] == 1
        assert await tries([other], Limits(requests=100), 120) == 99

    run(main())


def test_what_one_limit_refuses_is_not_taken_of_the_leases_of_another() -> None:
    async def main() -> None:
        bank = Bank()
        one, other = gateway(bank), gateway(bank)
        limits = Limits(requests=40, tokens=1000)
        assert await tries([other], limits, 10) == 10
        for _ in range(50):
            with pytest.raises(Failure, match="over all gateways"):
                await one.place(ask(limits=limits))
        assert bank.lent["user:ann", "requests", 0] <= 10 + 2 * 2

    run(main())

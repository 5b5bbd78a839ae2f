"""Limits that several gateways share."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest
from fair_world import ONE, ask, configuration, dispatcher, run

from paddock_gateway.contract import Used
from paddock_gateway.errors import Failure
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.settings import Limits


class Bank:
    """The database's part, in memory, answered a moment later. What comes back is taken off what was lent first."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        self.asked = 0
        self.away = False

    def lent(self, subject: str, kind: str, window_s: float = 60) -> float:
        now = asyncio.get_running_loop().time()
        return sum(amount for at, amount in self.rows[subject, kind] if at + window_s > now)

    async def lend(self, subject: str, kind: str, window_s: int, limit: int, amount: int) -> int:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.away:
            raise Failure(503, "The database cannot be asked.")
        amount = max(0, min(amount, limit - int(self.lent(subject, kind, window_s))))
        self.rows[subject, kind].append([asyncio.get_running_loop().time(), amount])
        return amount

    async def give_back(self, subject: str, kind: str, window_s: int, amount: int) -> None:
        await asyncio.sleep(0.001)
        now = asyncio.get_running_loop().time()
        for row in self.rows[subject, kind]:
            if row[0] + window_s > now:
                back = min(row[1], amount)
                row[1] -= back
                amount -= int(back)


def gateway(bank: Bank) -> FairDispatcher:
    return dispatcher(configuration(ONE), 50, lender=bank)


async def tries(gateways: list[FairDispatcher], limits: Limits, number: int, used: int = 100) -> int:
    passed = 0
    for at in range(number):
        one = gateways[at % len(gateways)]
        try:
            place = await one.place(ask(limits=limits))
        except Failure as failure:
            assert failure.status == 429 and failure.retry_after_s is not None and failure.retry_after_s <= 63
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
        await asyncio.sleep(63)
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
        assert bank.lent("user:ann", "tokens") <= 1000

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
        assert bank.lent("user:ann", "requests") == 1
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
        assert bank.lent("user:ann", "requests") <= 10 + 2 * 2

    run(main())


@pytest.mark.parametrize("seed", range(4))
def test_over_several_gateways_no_window_ever_has_one_too_many(seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(requests=chance.randint(5, 60), tokens=4000, window_s=chance.choice([5, 20, 60]))

    async def main() -> None:
        bank = Bank()
        gateways = [gateway(bank) for _ in range(3)]
        clock = asyncio.get_running_loop().time
        accepted: list[tuple[float, list[int]]] = []

        async def client() -> None:
            await asyncio.sleep(chance.random() * 200)
            row = [chance.randint(1, 200)]
            one = chance.choice(gateways)
            try:
                place = await one.place(ask(tokens=row[0], limits=limits))
            except Failure:
                return
            accepted.append((clock(), row))
            within = [tokens for at, (tokens,) in accepted if at + limits.window_s > clock()]
            assert len(within) <= (limits.requests or 0) and sum(within) <= (limits.tokens or 0)
            await asyncio.sleep(chance.random() * 9)
            row[0] = chance.randint(0, row[0])
            one.done(place, Used(row[0]), whole=True)

        await asyncio.gather(*(client() for _ in range(900)))
        assert len(accepted) > 10

    run(main())


def test_whoever_leaves_while_the_database_is_asked_loses_nothing_that_was_lent() -> None:
    async def main() -> None:
        bank = Bank()
        one, passed = gateway(bank), 0
        for _ in range(30):
            task = asyncio.ensure_future(one.place(ask(limits=Limits(requests=10))))
            await asyncio.sleep(0.0005)
            if task.cancel():
                await asyncio.gather(task, return_exceptions=True)
                await one.idle()
            elif task.exception() is None:
                one.done(task.result(), None, whole=True)
                passed += 1
        assert passed + await tries([one], Limits(requests=10), 20) == 10

    run(main())


def test_waiting_for_the_database_is_not_at_rest() -> None:
    async def main() -> None:
        bank = Bank()
        one = gateway(bank)
        bank.rows["user:ann", "requests"].append([0.0, 10])
        task = asyncio.ensure_future(one.place(ask(limits=Limits(requests=10))))
        await asyncio.sleep(0)
        idle = asyncio.ensure_future(one.idle())
        await asyncio.sleep(0)
        assert not idle.done()
        with pytest.raises(Failure):
            await task
        await idle

    run(main())


def test_what_is_not_used_is_lent_to_others_once_its_validity_is_over() -> None:
    async def main() -> None:
        bank = Bank()
        one, other = gateway(bank), gateway(bank)
        limits = Limits(requests=100)
        assert await tries([one], limits, 1) == 1
        assert await tries([other], limits, 110) == 95
        await asyncio.sleep(5)
        assert await tries([other], limits, 10) == 4
        assert bank.lent("user:ann", "requests", 63) == 100

    run(main())


def test_what_nobody_counts_any_more_is_not_given_back_from_what_others_were_lent() -> None:
    """A request that ran for more than a window, and took less than was held for it."""

    async def main() -> None:
        bank = Bank()
        one, other = gateway(bank), gateway(bank)
        limits = Limits(tokens=1000)
        place = await one.place(ask(tokens=900, limits=limits))
        await asyncio.sleep(70)
        assert await tries([other], limits, 20) == 10
        one.done(place, Used(1), whole=True)
        await asyncio.sleep(2)
        assert bank.lent("user:ann", "tokens", 63) == 1000
        assert await tries([one], limits, 5) == 0

    run(main())


def test_a_debt_is_forgotten_with_its_window() -> None:
    async def main() -> None:
        bank = Bank()
        one = gateway(bank)
        limits = Limits(tokens=1000)
        assert await tries([one], limits, 1, used=5000) == 1
        await asyncio.sleep(70)
        assert await tries([one], limits, 20) == 10

    run(main())

"""Limits: never exceeded by one in any window, whole or not at all, and the time to come back is true."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import pytest
from fair_world import ONE, TWO, ask, configuration, dispatcher, run

from paddock_gateway.contract import Used
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Limits


@pytest.mark.parametrize("seed", range(5))
def test_no_window_ever_has_one_too_many(seed: int) -> None:
    chance = random.Random(seed)
    of_user = Limits(
        requests=chance.randint(1, 8), tokens=chance.randint(300, 900), window_s=chance.randint(1, 9), parallel=chance.randint(1, 4)
    )
    of_model = Limits(requests=chance.randint(4, 12), window_s=chance.randint(1, 9))
    of_all = Limits(tokens=1500, window_s=5, parallel=6)

    async def main() -> None:
        one = dispatcher(configuration(ONE, limits={"m": of_model}, global_limits=of_all), 3)
        clock = asyncio.get_running_loop().time
        accepted: list[tuple[float, str, list[int]]] = []
        under_way: dict[str, int] = dict.fromkeys("xyz", 0)

        def check() -> None:
            now = clock()
            for claims, limits in [*(((user,), of_user) for user in "xyz"), (("x", "y", "z"), of_model), (("x", "y", "z"), of_all)]:
                within = [tokens for at, user, (tokens,) in accepted if user in claims and at + limits.window_s > now]
                assert limits.requests is None or len(within) <= limits.requests
                assert limits.tokens is None or sum(within) <= limits.tokens
                assert limits.parallel is None or sum(under_way[user] for user in claims) <= limits.parallel

        async def client() -> None:
            await asyncio.sleep(chance.random() * 40)
            user, tokens = chance.choice("xyz"), chance.randint(1, 300)
            began, row = clock(), [tokens]
            asked = ask(user, tokens=tokens, limits=of_user)
            task = asyncio.ensure_future(one.place(asked))
            await asyncio.sleep(0)
            if task.done() and task.exception() is not None:
                return
            under_way[user] += 1
            accepted.append((began, user, row))
            check()
            if chance.random() < 0.1:
                task.cancel()
            try:
                place = await task
            except asyncio.CancelledError:
                accepted.remove((began, user, row))
                under_way[user] -= 1
                return
            await asyncio.sleep(chance.random() * 2)
            row[0] = chance.randint(0, tokens)
            one.done(place, Used(row[0]), whole=True)
            under_way[user] -= 1
            check()

        await asyncio.gather(*(client() for _ in range(300)))
        assert len(accepted) > 10 and set(one.figures().limited) & {"requests", "tokens"}

    run(main())


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_the_time_to_come_back_is_true_to_the_second(kind: str) -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        limits = Limits(requests=3) if kind == "requests" else Limits(tokens=300)
        for _ in range(3):
            one.done(await one.place(ask(limits=limits)), None, whole=True)
            await asyncio.sleep(7)
        with pytest.raises(Failure, match=f'of user "ann" is 3.* {kind} in 60 seconds') as told:
            await one.place(ask(limits=limits))
        assert (told.value.status, told.value.retry_after_s) == (429, 39)
        await asyncio.sleep(38.9)
        with pytest.raises(Failure):
            await one.place(ask(limits=limits))
        await asyncio.sleep(0.1)
        await one.place(ask(limits=limits))

    run(main())


def test_what_is_refused_by_one_limit_takes_nothing_of_the_others() -> None:
    async def main() -> None:
        whole = Limits(requests=2, tokens=1000)
        one = dispatcher(configuration(ONE, limits={"m": Limits(requests=1, window_s=10)}, global_limits=whole))
        await one.place(ask())
        for _ in range(20):
            with pytest.raises(Failure, match=r'of model "m" .all users together. is 1 requests'):
                await one.place(ask("bob", limits=Limits(requests=1)))
        await asyncio.sleep(10)
        await one.place(ask("bob", limits=Limits(requests=1)))
        await asyncio.sleep(10)
        with pytest.raises(Failure, match=r"of this gateway .all users and models together. is 2 requests"):
            await one.place(ask("eve"))

    run(main())


def test_reserved_tokens_are_settled() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        limits = Limits(tokens=1000)
        place = await one.place(ask(tokens=900, limits=limits))
        with pytest.raises(Failure, match="900 are used or held, and this request may take 101"):
            await one.place(ask(tokens=101, limits=limits))
        one.done(place, Used(50, 40, 60), whole=True)
        place = await one.place(ask(tokens=890, limits=limits))
        one.done(place, Used(1500, 0, 1), whole=True)
        with pytest.raises(Failure, match="1611 are used"):
            await one.place(ask(tokens=1, limits=limits))

    run(main())


def test_a_request_that_can_never_pass_is_not_told_to_come_back() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        with pytest.raises(Failure, match="can never pass") as told:
            await one.place(ask(tokens=1001, limits=Limits(tokens=1000)))
        assert (told.value.status, told.value.headers, one.figures().limited) == (413, {}, {"tokens": 1})

    run(main())


def test_those_that_wait_count_as_at_once_and_two_keys_of_a_user_together() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        limits = Limits(parallel=2)
        await one.place(ask(limits=limits))
        waiting = asyncio.ensure_future(one.place(ask(limits=limits)))
        await asyncio.sleep(0)
        other = ask(limits=limits)
        with pytest.raises(Failure, match="2 at once") as told:
            await one.place(dataclasses.replace(other, account=dataclasses.replace(other.account, key="another")))
        assert told.value.retry_after_s is not None
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        waiting = asyncio.ensure_future(one.place(ask(limits=limits)))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()

    run(main())


def test_limits_that_change_hold_at_once() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        for _ in range(3):
            one.done(await one.place(ask(limits=Limits(requests=3, tokens=1000))), Used(10), whole=True)
        await one.place(ask(limits=Limits(requests=4)))
        with pytest.raises(Failure, match="is 2 requests"):
            await one.place(ask(limits=Limits(requests=2)))
        await asyncio.sleep(5)
        one.done(await one.place(ask(limits=Limits(requests=1, window_s=5))), None, whole=True)

    run(main())


def test_users_who_are_gone_are_not_kept() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        for at in range(3000):
            one.done(await one.place(ask(f"user-{at}", limits=Limits(requests=1, window_s=1))), None, whole=True)
            await asyncio.sleep(0.01)
        assert len(one._admission.limiter._meters) < 1500

    run(main())


def test_whoever_comes_and_leaves_a_million_times_fills_no_memory() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO))
        held = one._admission.limiter
        asked = ask(said=TWO, limits=Limits(requests=5, window_s=3600))
        first = held.take(asked, held.claims(asked), 0.0, lambda: 1.0)
        for _ in range(1000):
            second = held.take(asked, held.claims(asked), 1.0, lambda: 1.0)
            third = held.take(asked, held.claims(asked), 1.0, lambda: 1.0)
            held.give_back(second)
            held.give_back(third)
        assert len(first[0][0].window.entries) < 200

    run(main())

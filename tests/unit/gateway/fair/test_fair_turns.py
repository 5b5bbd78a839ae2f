"""Turns, places and the end of a gateway: the dispatcher in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest
from fair_world import ONE, TWO, ask, at_rest, configuration, dispatcher, run

from paddock_gateway.contract import BackendState, Used
from paddock_gateway.errors import Failure
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.settings import Queue


@pytest.mark.parametrize("seed", range(8))
def test_while_all_are_backlogged_the_shares_are_the_weights(seed: int) -> None:
    chance = random.Random(seed)
    users = {f"user-{at}": chance.choice([0.5, 1, 1, 2, 3, 5]) for at in range(chance.randint(2, 8))}
    slots, largest = chance.randint(1, 6), chance.choice([50, 500, 4000])
    exact = seed % 2 == 0

    async def main() -> None:
        one = dispatcher(configuration(ONE), slots)
        done = dict.fromkeys(users, 0)
        started = dict.fromkeys(users, 0)
        left = dict.fromkeys(users, 0)
        over = asyncio.Event()

        async def request(user: str, tokens: int, real: int) -> None:
            place = await one.place(ask(user, tokens=tokens, weight=users[user]))
            left[user] -= 1
            if not left[user]:
                over.set()
            if over.is_set():
                one.done(place, Used(), whole=True)
                return
            started[user] += real
            assert one.figures().running <= slots
            await asyncio.sleep(real / 100)
            done[user] += real
            one.done(place, Used(prompt_tokens=real), whole=True)

        tasks = []
        for user, weight in users.items():
            for _ in range(int(60 * weight) + 10):
                tokens = chance.randint(1, largest)
                left[user] += 1
                tasks.append(asyncio.ensure_future(request(user, tokens, tokens if exact else chance.randint(1, tokens))))
        await over.wait()
        total, weights = sum(started.values()), sum(users.values())
        for user, weight in users.items():
            fair = total * weight / weights
            assert abs(started[user] - fair) <= 0.05 * fair + largest * (1 if exact else slots), (user, started, users)
        await asyncio.gather(*tasks)
        at_rest(one)

    run(main())


def test_a_share_that_is_not_used_is_borrowed_and_not_held_against_the_borrower() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        order: list[str] = []

        async def request(user: str) -> None:
            place = await one.place(ask(user))
            order.append(user)
            await asyncio.sleep(1)
            one.done(place, Used(prompt_tokens=100), whole=True)

        anns = [asyncio.ensure_future(request("ann")) for _ in range(40)]
        await asyncio.sleep(20.5)
        assert order == ["ann"] * 21
        bobs = [asyncio.ensure_future(request("bob")) for _ in range(10)]
        await asyncio.gather(*anns, *bobs)
        assert order[21:41].count("bob") in {9, 10}, "bob neither gets what he did not use, nor is he behind"

    run(main())


def test_a_users_requests_are_in_order_and_one_that_waits_takes_no_slot() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        first = await one.place(ask())
        tasks = [asyncio.ensure_future(one.place(ask(tokens=100 - at))) for at in range(5)]
        await asyncio.sleep(0)
        assert one.figures().waiting == 5 and one.figures().running == 1
        place = first
        for at, task in enumerate(tasks):
            one.done(place, None, whole=True)
            place = await task
            assert not any(other.done() for other in tasks[at + 1 :])
            assert place.position == at + 1
        one.done(place, None, whole=True)
        at_rest(one)

    run(main())


def test_places_follow_the_slots_and_what_runs_in_one_that_went_away_runs_on() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 3)
        places = [await one.place(ask()) for _ in range(3)]
        assert {place.slot for place in places} == {0, 1, 2}
        one.update("one", BackendState(True, 1))
        waiting = asyncio.ensure_future(one.place(ask()))
        for place in places[:2]:
            one.done(place, None, whole=True)
            await asyncio.sleep(0)
            assert not waiting.done()
        one.done(places[2], None, whole=True)
        assert (await waiting).slot == 0
        more = [asyncio.ensure_future(one.place(ask())) for _ in range(2)]
        await asyncio.sleep(0)
        one.update("one", BackendState(True, 3))
        assert {(await task).slot for task in more} == {1, 2}

    run(main())


def test_a_full_queue_refuses_with_the_time_to_come_back() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE, queue=Queue(length=3, per_user=2)), 1)
        await one.place(ask())
        waiting = [asyncio.ensure_future(one.place(ask())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Failure, match="2 of each user") as told:
            await one.place(ask())
        assert (told.value.status, int(told.value.headers["Retry-After"]) >= 1) == (429, True)
        waiting.append(asyncio.ensure_future(one.place(ask("bob"))))
        await asyncio.sleep(0)
        with pytest.raises(Failure, match="the queue takes 3"):
            await one.place(ask("eve"))
        assert one.figures().limited == {"queue": 2} and one.figures().waiting == 3
        for task in waiting:
            task.cancel()

    run(main())


def test_a_wait_that_is_too_long_ends_and_the_next_one_is_served() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE, queue=Queue(wait_s=10)), 1)
        place = await one.place(ask())
        with pytest.raises(Failure, match="No place came free in 10 seconds") as told:
            await one.place(ask())
        assert told.value.status == 429 and told.value.retry_after_s is not None
        assert asyncio.get_running_loop().time() == 10
        one.done(place, None, whole=True)
        at_rest(one)

    run(main())


def test_without_a_back_end_new_requests_and_those_that_wait_are_told() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO), 1)
        one.update("two", BackendState(False, 1))
        with pytest.raises(Failure, match='No back end of model "m"') as told:
            await one.place(ask(said=TWO, exclude=frozenset({"one"})))
        assert told.value.status == 503 and told.value.retry_after_s == 60
        place = await one.place(ask(said=TWO))
        waiting = asyncio.ensure_future(one.place(ask(said=TWO)))
        await asyncio.sleep(0)
        one.update("one", BackendState(False, 1))
        with pytest.raises(Failure, match="No back end"):
            await waiting
        one.done(place, None, whole=False)
        at_rest(one)

    run(main())


def test_an_idle_replica_gets_traffic_and_the_least_busy_the_most() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO), 2)
        seen: list[str] = []
        for _ in range(10):
            place = await one.place(ask(said=TWO))
            seen.append(place.backend)
            one.done(place, None, whole=True)
        assert seen.count("one") in {4, 5, 6}
        one.update("two", BackendState(True, 6))
        at_once = [await one.place(ask(said=TWO)) for _ in range(8)]
        assert [place.backend for place in at_once].count("two") == 6

    run(main())


def test_the_forecast_goes_by_what_requests_took() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 2)
        place = await one.place(ask())
        await asyncio.sleep(8)
        assert one.forecast(ask()).position == 0
        one.done(place, None, whole=True)
        places = [await one.place(ask()) for _ in range(2)]
        told = one.forecast(ask())
        assert (told.position, told.wait_s) == (1, 4)
        waiting = asyncio.ensure_future(one.place(ask()))
        await asyncio.sleep(0)
        assert one.forecast(ask("bob")).position == 2
        one.done(places[0], None, whole=True)
        assert (await waiting).position == 1

    run(main())


def test_thousands_may_wait() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 4)
        tasks = [asyncio.ensure_future(serve(one, f"user-{at % 600}")) for at in range(2000)]
        await asyncio.gather(*tasks)
        at_rest(one)

    async def serve(one: FairDispatcher, user: str) -> None:
        place = await one.place(ask(user))
        await asyncio.sleep(1)
        one.done(place, Used(50, 0, 10), whole=True)

    run(main())

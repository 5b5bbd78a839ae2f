"""Retries, clients that leave, and the end of a gateway: nothing is left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import Any

import pytest
from fair_world import ONE, TWO, ask, at_rest, configuration, dispatcher, run

from paddock_gateway.contract import BackendState, Place, Used
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Health, Limits, Queue


def test_draining_serves_those_that_wait_and_takes_no_new_ones() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        first = await one.place(ask())
        waiting = asyncio.ensure_future(one.place(ask()))
        await asyncio.sleep(0)
        one.drain()
        idle = asyncio.ensure_future(one.idle())
        with pytest.raises(Failure) as told:
            await one.place(ask("bob"))
        assert told.value.status == 503 and told.value.retry_after_s and one.draining
        one.again(first)
        second = await waiting
        retried = asyncio.ensure_future(one.place(ask(exclude=frozenset({"two"}))))
        await asyncio.sleep(0)
        assert not idle.done()
        one.done(second, None, whole=True)
        one.done(await retried, None, whole=True)
        await idle
        one.resume()
        one.done(await one.place(ask("bob")), None, whole=True)
        at_rest(one)

    run(main())


def test_a_retry_counts_once_and_goes_elsewhere() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO), 1)
        limits = Limits(requests=1, parallel=1, tokens=100)
        asked = ask(said=TWO, limits=limits)
        place = await one.place(asked)
        one.again(place)
        second = await one.place(dataclasses.replace(asked, exclude=frozenset({place.backend})))
        assert second.backend != place.backend
        one.done(place, None, whole=True)
        assert one.figures().running == 1, "what was given back is not given back again"
        one.done(second, Used(10, 0, 5), whole=True)
        with pytest.raises(Failure, match="1 requests in 60 seconds"):
            await one.place(asked)
        at_rest(one)

    run(main())


def test_a_request_that_ran_long_and_failed_may_wait_again_but_only_so_long_in_all() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO, queue=Queue(wait_s=10)), 1)
        held = [await one.place(ask(said=TWO)) for _ in range(2)]
        asked = ask(said=TWO)
        waiting = asyncio.ensure_future(one.place(asked))
        await asyncio.sleep(4)
        one.done(held[0], None, whole=True)
        place = await waiting
        await asyncio.sleep(100)
        one.again(place)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Failure, match="No place came free"):
            await one.place(dataclasses.replace(asked, exclude=frozenset({place.backend})))
        assert asyncio.get_running_loop().time() - began == 6
        one.done(held[1], None, whole=True)
        at_rest(one)

    run(main())


def test_a_retry_that_never_comes_is_forgotten() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO), 1)
        one.again(await one.place(ask(said=TWO, limits=Limits(parallel=1))))
        await one.idle()
        at_rest(one)

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_whoever_leaves_whenever_leaves_nothing_behind(seed: int) -> None:
    chance = random.Random(seed)
    models = {"m": [("one", "m"), ("two", "m")], "n": [("two", "n"), ("three", "n")], "o": [("three", "o")]}

    async def main() -> None:
        said = configuration(models, queue=Queue(length=40, per_user=15, wait_s=5), limits={"m": Limits(requests=60, window_s=7)})
        one = dispatcher(said, 2)
        running = {"one": 0, "two": 0, "three": 0}

        async def client(at: int) -> None:
            await asyncio.sleep(chance.random() * 20)
            model = chance.choice("mno")
            asked: Any = ask(f"user-{at % 7}", models, model, tokens=chance.randint(0, 500), limits=Limits(parallel=6, tokens=5000))
            for _ in range(3):
                place: Place = await one.place(asked)
                running[place.backend] += 1
                assert running[place.backend] <= 3
                outcome = chance.random()
                try:
                    await asyncio.sleep(chance.random())
                except asyncio.CancelledError:
                    running[place.backend] -= 1
                    one.done(place, None, whole=False)
                    raise
                running[place.backend] -= 1
                if outcome > 0.2:
                    one.done(place, chance.choice([None, Used(chance.randint(0, 900), 0, 5)]), whole=outcome > 0.4)
                    return
                one.again(place)
                asked = dataclasses.replace(asked, exclude=asked.exclude | {place.backend})

        tasks = [asyncio.ensure_future(client(at)) for at in range(250)]
        for _ in range(400):
            await asyncio.sleep(chance.random() * 0.1)
            if chance.random() < 0.5:
                chance.choice(tasks).cancel()
            if chance.random() < 0.1:
                one.update(chance.choice(["one", "two", "three"]), BackendState(chance.random() < 0.7, chance.randint(1, 3)))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        odd = [outcome for outcome in outcomes if outcome is not None and not isinstance(outcome, (Failure, asyncio.CancelledError))]
        assert not odd
        await one.idle()
        at_rest(one)
        assert sum(outcome is None for outcome in outcomes) > 20

    run(main())


def test_whoever_leaves_in_the_moment_of_the_grant_gives_the_place_to_the_next() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        place = await one.place(ask())
        for late in (True, False):
            gone, stays = (asyncio.ensure_future(one.place(ask())) for _ in range(2))
            await asyncio.sleep(0)
            if late:
                one.done(place, None, whole=True)
                gone.cancel()
            else:
                gone.cancel()
                one.done(place, None, whole=True)
            place = await stays
            assert gone.cancelled()
        one.done(place, None, whole=True)
        at_rest(one)

    run(main())


def test_over_a_restart_of_the_only_back_end_requests_wait_and_then_go_there() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        held = await one.place(ask())
        before = asyncio.ensure_future(one.place(ask()))
        await asyncio.sleep(1)
        one.update("one", BackendState(up=False, slots=0))
        after = asyncio.ensure_future(one.place(ask()))
        await asyncio.sleep(60)
        assert not before.done() and not after.done()
        one.update("one", BackendState(up=True, slots=2))
        one.done(held, None, whole=True)
        for each in await asyncio.gather(before, after):
            one.done(each, None, whole=True)
        at_rest(one)

    run(main())


def test_a_request_waits_for_a_back_end_that_is_down_only_so_long() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE, health=Health(wait_s=10)), 1)
        held = await one.place(ask())
        before = asyncio.ensure_future(one.place(ask()))
        await asyncio.sleep(1)
        one.update("one", BackendState(up=False, slots=0))
        began = asyncio.get_running_loop().time()
        for waiting in (before, asyncio.ensure_future(one.place(ask()))):
            with pytest.raises(Failure, match='No back end of model "m" is up') as told:
                await waiting
            assert told.value.status == 503
        assert asyncio.get_running_loop().time() - began == 10
        with pytest.raises(Failure, match="is up"):
            await one.place(ask())
        assert asyncio.get_running_loop().time() - began == 10, "who comes later does not wait"
        one.done(held, None, whole=True)
        at_rest(one)

    run(main())

"""A router that has to swap: in whose favour, how often, and how long another waits."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import pytest
from fair_world import ask, at_rest, configuration, dispatcher, run

from paddock_gateway.contract import Ask, BackendState, Place, Used
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.settings import Queue

MODELS = {"a": [("router", "a")], "b": [("router", "b")], "c": [("router", "c")]}


def router(one: FairDispatcher, loaded: str, *, models_max: int = 1, slots: int = 2) -> None:
    one.update("router", BackendState(True, slots, frozenset(loaded), models_max))


def made(bound_s: float = 30.0, **more: int) -> FairDispatcher:
    one = dispatcher(configuration(MODELS, queue=Queue(length=10_000, per_user=10_000, wait_s=1e6, swap_bound_s=bound_s)))
    router(one, "a", **more)
    return one


class FirstCome:
    """What there is without a queue that knows of models: each in turn, and a swap once what runs has ended."""

    def __init__(self, slots: int = 2) -> None:
        self.slots, self.loaded, self.running, self.swaps = slots, "a", 0, 0
        self.queue: deque[tuple[str, asyncio.Future[Place]]] = deque()

    async def place(self, asked: Ask) -> Place:
        granted: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self.queue.append((asked.model, granted))
        self.serve()
        return await granted

    def serve(self) -> None:
        while self.queue and self.running < self.slots and (self.queue[0][0] == self.loaded or not self.running):
            model, granted = self.queue.popleft()
            self.swaps += model != self.loaded
            self.loaded = model
            self.running += 1
            granted.set_result(Place("router", model, None, False))

    def done(self, place: Place, used: Used | None, *, whole: bool) -> None:
        self.running -= 1
        self.serve()


class User:
    """Asks again as soon as it has its answer, with so many requests at once."""

    def __init__(
        self,
        one: FairDispatcher | FirstCome,
        model: str,
        sent: list[str],
        takes_s: float = 1.0,
        pause_s: float = 0.05,
        until_s: float = 600,
    ) -> None:
        self.one, self.model, self.sent, self.takes_s, self.pause_s, self.until_s = one, model, sent, takes_s, pause_s, until_s
        self.longest_s = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self.until_s:
            place = await self.one.place(ask(f"user-of-{self.model}", MODELS, self.model))
            self.longest_s = max(self.longest_s, place.queued_s)
            self.sent.append(self.model)
            await asyncio.sleep(self.takes_s)
            self.one.done(place, Used(100), whole=True)
            await asyncio.sleep(self.pause_s)


@pytest.mark.parametrize("at_once", [1, 6])
def test_two_users_of_two_models_swap_five_times_less_than_first_come_first_served(at_once: int) -> None:
    async def main() -> None:
        one, sent = made(), list[str]()
        users = [User(one, model, sent) for model in "ab" for _ in range(at_once)]
        await asyncio.gather(*(user.run() for user in users))
        simple, served = FirstCome(), list[str]()
        until_s = asyncio.get_running_loop().time() + 600
        await asyncio.gather(*(User(simple, model, served, until_s=until_s).run() for model in "ab" for _ in range(at_once)))
        swaps = one.figures().swaps_by_backend["router"]
        assert swaps == sum(earlier != later for earlier, later in zip(["a", *sent], sent, strict=False))
        assert swaps * 5 <= simple.swaps
        assert max(user.longest_s for user in users) <= 30 + 2 * 1 + 0.1
        shares = [sent.count(model) for model in "ab"]
        assert min(shares) > 0.8 * max(shares)

    run(main())


def test_three_models_in_one_place_take_turns_and_none_is_starved() -> None:
    async def main() -> None:
        one, sent = made(), list[str]()
        users = [User(one, model, sent, takes_s=0.7) for model in "abc" for _ in range(4)]
        await asyncio.gather(*(user.run() for user in users))
        assert max(user.longest_s for user in users) <= 2 * (30 + 1)
        assert min(sent.count(model) for model in "abc") > 0.6 * max(sent.count(model) for model in "abc")

    run(main())


def test_two_long_queues_do_not_swap_at_each_request() -> None:
    async def main() -> None:
        one = made(bound_s=5, slots=1)

        async def request(model: str) -> None:
            place = await one.place(ask(f"user-of-{model}", MODELS, model))
            await asyncio.sleep(1)
            one.done(place, Used(100), whole=True)

        await asyncio.gather(*(request(model) for model in "ab" * 40))
        assert one.figures().swaps_by_backend["router"] <= 17

    run(main())


def test_a_model_that_runs_is_waited_for_before_it_leaves() -> None:
    async def main() -> None:
        one = made(bound_s=5)
        running = [await one.place(ask("ann", MODELS, "a")) for _ in range(2)]
        other = asyncio.ensure_future(one.place(ask("bob", MODELS, "b")))
        same = asyncio.ensure_future(one.place(ask("ann", MODELS, "a")))
        await asyncio.sleep(6)
        one.done(running[0], None, whole=True)
        await asyncio.sleep(1)
        assert not same.done(), "the bound is over: the loaded model takes no more"
        assert not other.done(), "and its last request runs on"
        one.done(running[1], None, whole=True)
        place: Place = await other
        assert place.model == "b" and one.figures().swaps_by_backend == {"router": 1}
        one.done(place, None, whole=True)
        assert (await same).model == "a"

    run(main())


def test_a_model_that_nobody_has_used_for_a_while_leaves_at_once() -> None:
    async def main() -> None:
        one = made()
        one.done(await one.place(ask("ann", MODELS, "a")), None, whole=True)
        await asyncio.sleep(2)
        place = await one.place(ask("bob", MODELS, "b"))
        assert place.queued_s == 0
        one.done(place, None, whole=True)
        # b was used a moment ago: its user may come back at once.
        assert 0.5 < (await one.place(ask("ann", MODELS, "a"))).queued_s < 2

    run(main())


def test_a_router_with_room_loads_without_a_swap_and_then_gives_up_the_least_recently_used() -> None:
    async def main() -> None:
        one = made(models_max=2)
        for model in ("b", "a"):
            one.done(await one.place(ask("ann", MODELS, model)), None, whole=True)
        assert one.figures().swaps_by_backend == {"router": 0}
        await asyncio.sleep(2)
        held = await one.place(ask("ann", MODELS, "a"))
        one.done(await one.place(ask("ann", MODELS, "c")), None, whole=True)
        assert set(one._backends.all["router"].loaded) == {"a", "c"}
        assert one.figures().slots_by_backend == {"router": 4}
        one.done(held, None, whole=True)
        one.done(await one.place(ask("ann", MODELS, "a")), None, whole=True)
        assert one.figures().swaps_by_backend == {"router": 1}

    run(main())


def test_what_a_look_finds_loaded_corrects_what_was_believed() -> None:
    async def main() -> None:
        one = made()
        place = await one.place(ask("ann", MODELS, "a", talk=("hello",)))
        one.done(place, None, whole=True)
        router(one, "b")
        place = await one.place(ask("bob", MODELS, "b"))
        one.done(place, None, whole=True)
        assert place.queued_s == 0
        assert one.figures().swaps_by_backend == {"router": 0}
        again = await one.place(ask("ann", MODELS, "a", talk=("hello", "you", "there")))
        assert not again.cache, "the process that held it is gone"

    run(main())


def test_each_model_of_a_router_has_slots_of_its_own_and_without_a_bound_none_leaves() -> None:
    async def main() -> None:
        one = made(models_max=0)
        places = [await one.place(ask("ann", MODELS, model)) for model in "aabbcc"]
        assert [place.slot for place in places] == [0, 1] * 3
        assert one.figures().swaps_by_backend == {"router": 0}
        waiting = asyncio.ensure_future(one.place(ask("ann", MODELS, "a")))
        await asyncio.sleep(0)
        assert not waiting.done()
        one.done(places[0], None, whole=True)
        await waiting

    run(main())


def test_a_model_that_another_router_has_makes_none_leave() -> None:
    async def main() -> None:
        models = {"a": [("router", "a")], "b": [("router", "b"), ("other", "b")]}
        one = dispatcher(configuration(models, queue=Queue(swap_bound_s=5)), 1)
        one.update("router", BackendState(True, 1, frozenset("a"), 1))
        one.update("other", BackendState(True, 1))
        await one.place(ask("ann", models, "a"))
        first = await one.place(ask("bob", models, "b"))
        assert first.backend == "other"
        second = asyncio.ensure_future(one.place(ask("bob", models, "b")))
        await asyncio.sleep(20)
        assert not second.done()
        one.done(first, None, whole=True)
        assert (await second).backend == "other"

    run(main())


def test_a_look_in_the_middle_of_a_swap_does_not_bring_the_old_model_back() -> None:
    async def main() -> None:
        one = made()
        await asyncio.sleep(2)
        await one.place(ask("bob", MODELS, "b"))
        router(one, "a")
        waiting = asyncio.ensure_future(one.place(ask("ann", MODELS, "a")))
        await asyncio.sleep(1)
        assert not waiting.done() and list(one._backends.all["router"].loaded) == ["b"]
        waiting.cancel()

    run(main())


def test_what_another_back_end_has_too_takes_the_place_only_of_a_model_that_is_out_of_use() -> None:
    async def main() -> None:
        models = {"a": [("one", "a"), ("two", "a")], "b": [("two", "b")]}
        one = dispatcher(configuration(models, queue=Queue(swap_bound_s=10)), 1)
        one.update("one", BackendState(True, 1, frozenset("a"), 1))
        one.update("two", BackendState(True, 1, frozenset("b"), 1))
        one.done(await one.place(ask("bob", models, "b")), None, whole=True)
        await one.place(ask("ann", models, "a"))
        more = asyncio.ensure_future(one.place(ask("ann", models, "a")))
        await asyncio.sleep(9)
        assert not more.done()
        await asyncio.sleep(1.1)
        assert more.result().backend == "two"

    run(main())


def test_who_gives_up_makes_no_model_leave() -> None:
    async def main() -> None:
        one = made(bound_s=5)
        held = await one.place(ask("ann", MODELS, "a"))
        other = asyncio.ensure_future(one.place(ask("bob", MODELS, "b")))
        await asyncio.sleep(6)
        same = asyncio.ensure_future(one.place(ask("ann", MODELS, "a")))
        await asyncio.sleep(1)
        assert not same.done()
        other.cancel()
        assert (await same).model == "a"
        one.done(held, None, whole=True)

    run(main())


class Router:
    """llama-server's router as it is: loads what is asked for, and gives up the least recently used of its idle models."""

    def __init__(self, models_max: int, slots: int) -> None:
        self.models_max, self.slots, self.swaps = models_max, slots, 0
        self.loaded: dict[str, int] = {}

    def sent(self, model: str) -> None:
        if model not in self.loaded and len(self.loaded) >= self.models_max:
            idle = [name for name, running in self.loaded.items() if not running]
            assert idle, "a model that is loaded runs on: the request would wait in the router"
            del self.loaded[idle[0]]
            self.swaps += 1
        self.loaded[model] = self.loaded.pop(model, 0) + 1
        assert self.loaded[model] <= self.slots


@pytest.mark.parametrize("seed", range(4))
def test_with_any_routers_and_models_nothing_waits_in_a_router_and_nobody_is_starved(seed: int) -> None:
    chance = random.Random(seed)
    routers = {f"router-{at}": Router(chance.randint(1, 3), chance.randint(1, 3)) for at in range(chance.randint(1, 3))}
    models = {model: [(name, model) for name in routers if chance.random() < 0.6] or [("router-0", model)] for model in "abcdef"}
    bound_s = 10

    async def main() -> None:
        one = dispatcher(configuration(models, queue=Queue(length=10_000, per_user=10_000, wait_s=1e6, swap_bound_s=bound_s)))
        for name, router in routers.items():
            one.update(name, BackendState(True, router.slots, frozenset(), router.models_max))
        longest_s, number = 0.0, 0

        async def user(name: str, model: str) -> None:
            nonlocal longest_s, number
            while asyncio.get_running_loop().time() < 400:
                place = await one.place(ask(name, models, model, tokens=chance.randint(1, 900)))
                longest_s, number = max(longest_s, place.queued_s), number + 1
                routers[place.backend].sent(place.model)
                await asyncio.sleep(chance.random() * 2)
                one.done(place, Used(chance.randint(1, 900)), whole=True)
                routers[place.backend].loaded[place.model] -= 1
                await asyncio.sleep(chance.choice([0, 0, 0.3, 5]))

        await asyncio.gather(*(user(f"user-{at}", chance.choice("abcdef")) for at in range(18)))
        at_rest(one)
        for name, router in routers.items():
            assert set(one._backends.all[name].loaded) == set(router.loaded)
            assert one.figures().swaps_by_backend[name] == router.swaps
        assert number > 200
        assert longest_s < 7 * (bound_s + 2), "each other model has its bound and its last request, six times at most"

    run(main())


def test_each_model_of_a_router_has_slots_of_its_own() -> None:
    async def main() -> None:
        one = made()
        one.update("router", BackendState(True, 1, frozenset("a"), 2, {"a": 3, "b": 2}))
        places = [await one.place(ask("ann", MODELS, model)) for model in "aaabb"]
        assert [place.slot for place in places] == [0, 1, 2, 0, 1]
        waiting = [asyncio.ensure_future(one.place(ask("ann", MODELS, model))) for model in "ab"]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        assert one.figures().slots_by_backend == {"router": 5}
        for place in places:
            one.done(place, None, whole=True)
        for task in waiting:
            one.done(await task, None, whole=True)
        at_rest(one)

    run(main())

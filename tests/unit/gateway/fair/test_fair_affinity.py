"""Which slot a conversation gets, and that no user is given what another left."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from fair_world import ONE, TWO, ask, at_rest, configuration, dispatcher, run

from paddock_gateway.contract import BackendState, Place, Used
from paddock_gateway.fair.dispatcher import FairDispatcher


async def turn(one: FairDispatcher, user: str, *talk: str, said: dict[str, list[tuple[str, str]]] = TWO, whole: bool = True) -> Place:
    place = await one.place(ask(user, said, talk=talk))
    one.done(place, Used(10, 0, 10), whole=whole)
    return place


def test_a_conversation_goes_on_in_the_slot_that_holds_it() -> None:
    async def main() -> None:
        one = dispatcher(configuration(TWO))
        talk = ["system", "hello"]
        first = await turn(one, "ann", *talk)
        assert not first.cache, "what the slot held before this gateway nobody knows"
        for at in range(10):
            for other in range(6):
                await turn(one, f"user-{other}", "system", f"question {at}")
            talk += [f"answer {at}", f"more {at}"]
            place = await turn(one, "ann", *talk)
            assert (place.backend, place.slot, place.cache) == (first.backend, first.slot, True)

    run(main())


def test_the_longest_part_of_a_conversation_wins() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        short = await turn(one, "ann", "system", "x", said=ONE)
        held = await one.place(ask("ann", talk=("system", "y")))
        long = await one.place(ask("ann", talk=("system", "y", "z")))
        for place in (held, long):
            one.done(place, None, whole=True)
        assert len({short.slot, held.slot, long.slot}) == 3, "what they share is less than what the first would lose"
        assert (await turn(one, "ann", "system", "y", "z", "more", said=ONE)).slot == long.slot

    run(main())


def test_a_warm_slot_that_is_busy_is_not_waited_for() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        held = await one.place(ask("ann", talk=("hello",)))
        other = await one.place(ask("ann", talk=("hello", "you")))
        assert other.slot != held.slot and other.queued_s == 0

    run(main())


def test_a_warm_slot_is_not_taken_while_there_is_a_cold_one() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 3)
        ann = await turn(one, "ann", "ann's", said=ONE)
        bob = await turn(one, "bob", "bob's", said=ONE)
        eve = await turn(one, "eve", "eve's", said=ONE)
        assert {ann.slot, bob.slot, eve.slot} == {0, 1, 2}
        await turn(one, "ann", "ann's", "more", said=ONE)
        await turn(one, "eve", "eve's", "more", said=ONE)
        assert (await turn(one, "dan", "dan's", said=ONE)).slot == bob.slot, "the least recently used"
        back = await turn(one, "bob", "bob's", "more", said=ONE)
        assert (back.slot, back.cache) == (ann.slot, False)

    run(main())


def test_after_a_broken_answer_the_slot_is_nobodys() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        await turn(one, "ann", "hello", said=ONE)
        assert (await turn(one, "ann", "hello", "a", said=ONE, whole=False)).cache
        assert not (await turn(one, "ann", "hello", "a", said=ONE)).cache
        place = await one.place(ask("ann", talk=("hello",)))
        assert place.cache
        one.again(place)
        assert not (await turn(one, "ann", "hello", said=ONE)).cache

    run(main())


def test_what_a_back_end_held_before_it_was_down_is_forgotten_also_by_what_ran_then() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 1)
        place = await one.place(ask("ann", talk=("hello",)))
        one.update("one", BackendState(False, 1))
        one.update("one", BackendState(True, 1))
        one.done(place, None, whole=True)
        assert not (await turn(one, "ann", "hello", "more", said=ONE)).cache
        one.update("one", BackendState(False, 0))
        one.update("one", BackendState(True, 1))
        assert not (await turn(one, "ann", "hello", "more", said=ONE)).cache

    run(main())


@pytest.mark.parametrize("shared", [False, True])
def test_a_system_prompt_is_shared_where_that_is_allowed(shared: bool) -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE, shared_system_prompt=shared), 2)
        same = await turn(one, "ann", "system", "hello", said=ONE)
        await turn(one, "bob", "another", "hello", said=ONE)
        place = await turn(one, "eve", "system", "hi", said=ONE)
        assert (place.slot, place.cache) == (same.slot, shared)

    run(main())


def test_a_back_end_that_does_not_say_its_slots_chooses_and_caches_nothing() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), 0)
        for _ in range(2):
            place = await turn(one, "ann", "hello", said=ONE)
            assert (place.slot, place.cache) == (None, False)

    run(main())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shared", [False, True])
def test_nobody_is_ever_given_what_another_left(seed: int, shared: bool) -> None:
    """The slots as llama-server keeps them: what a request finds cached is what was sent there before, unless it says otherwise."""
    chance = random.Random(seed)

    async def main() -> None:
        one = dispatcher(configuration(TWO, shared_system_prompt=shared), 3)
        content: dict[tuple[str, int | None], tuple[str, tuple[str, ...]]] = {}
        talks: dict[str, tuple[str, ...]] = {}
        running: list[tuple[Place, str]] = []
        for step in range(1500):
            for place, user in [entry for entry in running if chance.random() < 0.4]:
                running.remove((place, user))
                one.done(place, None, whole=chance.random() < 0.8)
            user = f"user-{chance.randrange(6)}"
            talk = talks.get(user, ("system",)) if chance.random() < 0.8 else ("system",)
            talk = talks[user] = (*talk, f"{user}-{step}")
            if len(running) == 6:
                continue
            place = await one.place(ask(user, TWO, talk=talk))
            key = place.backend, place.slot
            assert key not in {(other.backend, other.slot) for other, _ in running}
            if place.cache and key in content:
                whose, there = content[key]
                assert whose == user or (shared and there[0] == talk[0])
            elif place.cache:
                raise AssertionError("a slot that nobody has used holds what nobody knows")
            content[key] = user, talk
            running.append((place, user))
            if step % 200 == 0:
                one.update("two", BackendState(False, 3))
                one.update("two", BackendState(True, chance.randint(2, 3)))
                one.update("two", BackendState(True, 3))

    run(main())


def test_nobody_takes_the_last_slot_of_another_to_have_two() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        mine = [await turn(one, user, f"of {user}", said=ONE) for user in ("ann", "bob", "cem", "dee")]
        assert (await turn(one, "dee", "something else", said=ONE)).slot == mine[3].slot
        for user, before in zip(("ann", "bob", "cem"), mine, strict=False):
            assert (await turn(one, user, f"of {user}", "more", said=ONE)).slot == before.slot

    run(main())


def test_who_has_most_gives_way() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        bob = await turn(one, "bob", "of bob", said=ONE)
        ann = [await turn(one, "ann", f"{number}", said=ONE) for number in range(3)]
        assert (await turn(one, "cem", "of cem", said=ONE)).slot == ann[0].slot, "her oldest, although his is older"
        assert (await turn(one, "bob", "of bob", "more", said=ONE)).slot == bob.slot

    run(main())


def test_counting_tokens_takes_no_slot_and_waits_for_none() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE), slots=1)
        first = await turn(one, "ann", "hello", said=ONE)
        running = await one.place(ask("bob", talk=("hi",)))
        waiting = asyncio.ensure_future(one.place(ask("ann", talk=("hello", "more"))))
        await asyncio.sleep(0)
        counting = await one.place(replace(ask("ann"), places=0, tokens=0))
        assert (counting.slot, counting.cache, counting.position) == (None, False, 0) and not waiting.done()
        one.done(counting, None, whole=True)
        one.done(running, None, whole=True)
        one.done(await waiting, None, whole=True)
        one.done(await one.place(replace(ask("bob"), places=0, tokens=0)), None, whole=True)
        place = await turn(one, "ann", "hello", "more", "and more", said=ONE)
        assert (place.slot, place.cache) == (first.slot, True)
        at_rest(one)

    run(main())


@pytest.mark.parametrize("more", [{"scattered": True}, {"scattered": True, "places": 3}])
def test_where_llama_server_chooses_the_slot_nobody_knows_what_any_holds(more: dict[str, Any]) -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        for _ in range(2):
            place = await turn(one, "ann", "hello", said=ONE)
        assert place.cache
        began_before = await one.place(ask("bob", talk=("hi",)))
        scattered = await one.place(replace(ask("cem", talk=("hello",)), **more))
        assert not scattered.cache
        if "places" in more:
            last = asyncio.ensure_future(one.place(ask("ann", talk=("hello",))))
            await asyncio.sleep(0)
            assert not last.done(), "it has a slot for each answer"
            one.done(began_before, None, whole=True)
            place = await last
        else:
            one.done(began_before, None, whole=True)
            place = await one.place(ask("ann", talk=("hello",)))
        assert not place.cache
        one.done(place, None, whole=True)
        one.done(scattered, None, whole=True)
        for user, said in (("ann", "hello"), ("bob", "hi"), ("cem", "hello")):
            assert not (await turn(one, user, said, said=ONE)).cache
            assert (await turn(one, user, said, said=ONE)).cache
        at_rest(one)

    run(main())


def test_what_a_broken_off_answer_left_is_its_users_once_it_has_begun() -> None:
    async def main() -> None:
        one = dispatcher(configuration(ONE))
        for begun in (False, True):
            place = await one.place(ask("ann", talk=("hello", str(begun))))
            place.begun = begun
            one.done(place, None, whole=False)
            assert (await one.place(ask("ann", talk=("hello", str(begun), "more")))).cache is begun

    run(main())

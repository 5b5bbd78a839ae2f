"""Who of those that wait for `/generate` is next."""

from __future__ import annotations

import asyncio

import pytest

from paddock_gateway.apis.turns import Turns
from paddock_gateway.contract import Account
from paddock_gateway.errors import Failure
from paddock_gateway.settings import Limits, Queue


def test_users_take_turns_by_their_weights_and_one_who_left_is_passed_over() -> None:
    async def go() -> list[str]:
        turns, served_in_order = Turns(1, Queue()), []
        gate = asyncio.Event()

        async def one(user: str) -> None:
            async with turns.turn(Account(user, "", None, Limits(), weight={"ann": 2.0}.get(user, 1.0))):
                served_in_order.append(user)
                await gate.wait()

        tasks = []
        for user in ("first", "ann", "ann", "ann", "left", "bob", "bob"):
            tasks.append(asyncio.ensure_future(one(user)))
            await asyncio.sleep(0)
        tasks[4].cancel()
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.running, turns.waiting) == (0, 0)
        return served_in_order

    assert asyncio.run(go()) == ["first", "ann", "bob", "ann", "ann", "bob"]


def test_one_user_cannot_fill_the_queue_alone() -> None:
    async def go() -> None:
        turns = Turns(1, Queue(per_user=1))
        ann, bob = Account("ann", "", None, Limits()), Account("bob", "", None, Limits())
        async with turns.turn(ann):
            waiting = [asyncio.ensure_future(turns.turn(account).__aenter__()) for account in (ann, ann, bob)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == [False, True, False]
            with pytest.raises(Failure, match="The queue is full"):
                await waiting[1]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        assert (turns.running, turns.waiting) == (0, 0)

    asyncio.run(go())


def test_a_wait_has_an_end_and_leaves_no_place_taken() -> None:
    async def go() -> None:
        turns = Turns(1, Queue(wait_s=0.001))
        ann, bob = Account("ann", "", None, Limits()), Account("bob", "", None, Limits())
        async with turns.turn(ann):
            with pytest.raises(Failure, match=r"No turn came within 0\.001 seconds"):
                async with turns.turn(bob):
                    raise AssertionError
        assert (turns.running, turns.waiting) == (0, 0)

    asyncio.run(go())

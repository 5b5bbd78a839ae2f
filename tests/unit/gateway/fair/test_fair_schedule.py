"""The queue's order by itself."""

from __future__ import annotations

import random

import pytest

from paddock_gateway.fair.schedule import Schedule, Turn

LANE = (("one", "m"),)


def wait(queue: Schedule, user: str, number: int, *, weight: float = 1.0, tokens: int = 100, model: str = "m") -> Turn:
    turn = Turn(user, weight, tokens, number, float(number))
    queue.join(turn, model, LANE)
    return turn


def first(queue: Schedule) -> Turn:
    return min((lane.first() for lane in queue.lanes.values()), key=lambda turn: turn.rank)


@pytest.mark.parametrize("seed", range(5))
def test_two_who_both_wait_are_never_further_apart_than_the_bound(seed: int) -> None:
    """The bound of SFQ(D) for any interval in which both wait: (D + 1) (largest / weight + largest / weight). Users come and go, what a
    request takes is only known when it ends, and it ends when it likes."""
    chance = random.Random(seed)
    weights = {f"user-{at}": chance.choice([0.5, 1, 2, 4]) for at in range(6)}
    depth, largest, number = chance.randint(1, 5), 300, 0
    queue = Schedule()
    running: list[tuple[Turn, int]] = []
    work = dict.fromkeys(weights, 0.0)
    backlog = dict.fromkeys(weights, 0)
    since: dict[tuple[str, str], float] = {}

    for _ in range(4000):
        for user, weight in weights.items():
            if not backlog[user] and chance.random() < 0.02:
                for _ in range(chance.randint(1, 120)):
                    number += 1
                    backlog[user] += 1
                    wait(queue, user, number, weight=weight, tokens=chance.randint(1, largest))
        while len(running) < depth and queue.waiting:
            turn = first(queue)
            queue.start(turn)
            backlog[turn.user] -= 1
            running.append((turn, chance.randint(turn.tokens // 2, turn.tokens)))
            work[turn.user] += turn.tokens / weights[turn.user]
        for turn, real in [entry for entry in running if chance.random() < 0.5]:
            running.remove((turn, real))
            queue.settle(turn, real)
            work[turn.user] -= (turn.tokens - real) / weights[turn.user]
        for one in weights:
            for other in weights:
                if one >= other:
                    continue
                if not (backlog[one] and backlog[other]):
                    since.pop((one, other), None)
                    continue
                apart = work[one] - work[other]
                start = since.setdefault((one, other), apart)
                assert abs(apart - start) <= (depth + 1) * largest * (1 / weights[one] + 1 / weights[other])
    assert number > 1000


def test_who_was_away_has_saved_nothing_and_owes_nothing() -> None:
    queue = Schedule()
    for number in range(1, 200):
        wait(queue, "ann", number)
    for _ in range(100):
        queue.start(turn := first(queue))
        queue.settle(turn, None)
    for number in range(200, 300):
        wait(queue, "bob", number)
    order = []
    for _ in range(40):
        queue.start(turn := first(queue))
        queue.settle(turn, None)
        order.append(turn.user)
    assert order.count("bob") in {20, 21}


def test_a_large_reservation_that_was_not_used_holds_nobody_up() -> None:
    queue = Schedule()
    for number in range(1, 50):
        wait(queue, "ann", number, tokens=4096)
    running = []
    for _ in range(4):
        queue.start(turn := first(queue))
        running.append(turn)
    for number in range(50, 100):
        wait(queue, "bob", number, tokens=100)
    for turn in running:
        queue.settle(turn, 50)
    order = []
    for _ in range(30):
        queue.start(turn := first(queue))
        queue.settle(turn, 50)
        order.append(turn.user)
    assert 12 <= order.count("bob") <= 18


def test_who_leaves_the_middle_or_the_front_changes_nobodys_order() -> None:
    queue = Schedule()
    turns = [wait(queue, "ann", number) for number in range(1, 7)]
    queue.leave(turns[0])
    queue.leave(turns[3])
    queue.leave(turns[3])
    order = []
    while queue.waiting:
        queue.start(turn := first(queue))
        queue.settle(turn, 1)
        order.append(turn.number)
    assert order == [2, 3, 5, 6]
    assert (queue.lanes, queue.flows) == ({}, {})


def test_one_who_comes_back_is_before_those_who_came_later() -> None:
    queue = Schedule()
    turns = [wait(queue, "ann", number) for number in range(1, 5)]
    for turn in turns[:2]:
        queue.start(turn)
    for turn in reversed(turns[:2]):
        queue.settle(turn, 0)
        queue.join(turn, "m", LANE)
    order = []
    while queue.waiting:
        queue.start(turn := first(queue))
        order.append(turn.number)
    assert order == [1, 2, 3, 4]


def test_a_request_that_cannot_go_yet_holds_up_none_for_another_model() -> None:
    queue = Schedule()
    wait(queue, "ann", 1, model="m")
    other = wait(queue, "ann", 2, model="n")
    queue.start(other)
    queue.settle(other, None)
    assert first(queue).number == 1


def test_what_is_kept_of_order_does_not_grow_with_what_has_passed() -> None:
    queue = Schedule()
    turns = [wait(queue, f"user-{number % 40}", number, tokens=1 + number % 7) for number in range(400)]
    last = turns[-1]
    for number in range(400, 5000):
        turn = first(queue)
        queue.start(turn)
        wait(queue, turn.user, number, tokens=1 + number % 7)
        queue.settle(turn, number % 3)
    assert queue.waiting == 400 and last.lane is None
    (lane,) = queue.lanes.values()
    assert len(lane.heap) < 200


def test_of_users_who_are_gone_none_is_kept_whose_share_the_others_have_had() -> None:
    queue = Schedule()
    wait(queue, "ann", 0, tokens=1)
    for number in range(1, 10_000):
        wait(queue, f"user-{number % 3000}" if number % 2 else "ann", number, tokens=1)
        queue.start(turn := first(queue))
        queue.settle(turn, None if turn.user == "ann" else 0)
    assert queue.waiting == 1
    assert len(queue.flows) <= 1500


def test_who_comes_new_is_level_with_those_who_wait_however_far_others_are_elsewhere() -> None:
    queue = Schedule()
    for number in range(50):
        wait(queue, "ann", number, model="m")
    for number in range(50, 100):
        wait(queue, "bob", number, model="n")
        queue.start(turn := queue.lanes["n", LANE].first())
        queue.settle(turn, None)
    for number in range(100, 150):
        wait(queue, "eve", number, model="m")
    order = []
    for _ in range(40):
        queue.start(turn := queue.lanes["m", LANE].first())
        queue.settle(turn, None)
        order.append(turn.user)
    assert order.count("eve") in {19, 20, 21}

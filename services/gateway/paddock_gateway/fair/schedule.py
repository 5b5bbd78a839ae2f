"""The order of the queue: fair between users by weight in tokens, each user's own requests in the order in which they came.

Start-time fair queueing (Goyal, Vin, Cheng: Start-time Fair Queuing, SIGCOMM 1996) for a server that does several requests at once,
SFQ(D) (Jin, Chase, Kaur: Interposed Proportional Sharing for a Storage Service Utility, SIGMETRICS 2004). What a request takes is known
only when it is done, so its reservation is charged at its start and settled at its end, as a virtual token counter does (Sheng and
others: Fairness in Serving Large Language Models, OSDI 2024). A user who comes back is lifted to the level that those who wait have
reached: idle time earns nothing. Pure: no clock, no loop.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import TypeAlias

Candidates: TypeAlias = "tuple[tuple[str, str], ...]"


class Flow:
    """A user. `served` and `reserved` are tokens over weight: what was done, and what is held for requests that run."""

    __slots__ = ("queues", "reserved", "running", "served", "user", "version", "weight")

    def __init__(self, user: str, served: float) -> None:
        self.user, self.served, self.reserved, self.weight = user, served, 0.0, 1.0
        self.running = self.version = 0
        self.queues: dict[Lane, deque[Turn]] = {}


NOBODY = Flow("", 0.0)


class Turn:
    """A request that waits for its turn, or has had it. `number` is its rank among its user's own."""

    __slots__ = ("charge", "flow", "lane", "number", "since", "tokens", "user", "weight")

    def __init__(self, user: str, weight: float, tokens: int, number: int, since: float) -> None:
        self.user, self.weight, self.number, self.since = user, weight, number, since
        self.tokens = max(1, tokens)
        self.lane: Lane | None = None
        """None while it does not wait."""
        self.flow: Flow = NOBODY
        self.charge = 0.0

    @property
    def rank(self) -> tuple[float, int]:
        """The least goes first."""
        return self.flow.served + self.flow.reserved, self.number


class Lane:
    """The requests that the same back ends can take. A request that waits for one lane holds up none in another."""

    __slots__ = ("candidates", "heap", "key", "model", "turns", "users")

    def __init__(self, key: Hashable, model: str, candidates: Candidates) -> None:
        self.key, self.model, self.candidates = key, model, candidates
        self.heap: list[tuple[float, int, int, Flow]] = []
        """Entries of an older version of their flow are dead."""
        self.turns: OrderedDict[Turn, None] = OrderedDict()
        """As they came."""
        self.users = 0

    @property
    def since(self) -> float:
        """When the oldest of them came."""
        return next(iter(self.turns)).since

    def first(self) -> Turn:
        """The request that is to go next. There is one."""
        while True:
            _, _, version, flow = self.heap[0]
            if version == flow.version and self in flow.queues:
                return flow.queues[self][0]
            heappop(self.heap)

    def push(self, flow: Flow) -> None:
        if len(self.heap) > 2 * self.users + 64:
            self.heap = [entry for entry in self.heap if entry[2] == entry[3].version and self in entry[3].queues]
            heapify(self.heap)
        first = flow.queues[self][0]
        heappush(self.heap, (*first.rank, flow.version, flow))


class Schedule:
    """The queue of back ends that have models in common."""

    def __init__(self) -> None:
        self.lanes: dict[Hashable, Lane] = {}
        self.flows: dict[str, Flow] = {}
        self.waiting = self.running = 0
        self._level = 0.0
        self._sweep_at = 1024

    def join(self, turn: Turn, model: str, candidates: Candidates) -> None:
        flow = self._flow(turn)
        key = (model, candidates)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(key, model, candidates)
        turn.lane = lane
        lane.turns[turn] = None
        self.waiting += 1
        queue = flow.queues.get(lane)
        if queue is None:
            flow.queues[lane] = deque((turn,))
            lane.users += 1
            self._changed(flow)
        elif turn.number > queue[-1].number:
            queue.append(turn)
        else:  # it had its turn before and comes back
            queue.insert(sum(1 for other in queue if other.number < turn.number), turn)
            self._changed(flow)

    def leave(self, turn: Turn) -> None:
        """Nothing where it does not wait."""
        lane, flow = turn.lane, turn.flow
        if lane is None:
            return
        turn.lane = None
        del lane.turns[turn]
        self.waiting -= 1
        queue = flow.queues[lane]
        was_first = queue[0] is turn
        queue.remove(turn)
        if not queue:
            del flow.queues[lane]
            lane.users -= 1
        if not lane.turns:
            del self.lanes[lane.key]
        if was_first:
            self._changed(flow)
        self._rest()

    def start(self, turn: Turn) -> None:
        """It runs: out of its lane, charged with what it may take. One that found a place at once never joined."""
        flow = turn.flow if turn.lane is not None else self._flow(turn)
        self.running += 1
        flow.running += 1
        self._level = max(self._level, flow.served)
        turn.charge = turn.tokens / flow.weight
        turn.weight = flow.weight
        flow.reserved += turn.charge
        if turn.lane is None:
            self._changed(flow)
        else:
            first = flow.queues[turn.lane][0] is turn
            self.leave(turn)
            if not first:
                self._changed(flow)

    def settle(self, turn: Turn, tokens: int | None) -> None:
        """It ended, and took so many tokens; None: as many as were reserved."""
        flow = turn.flow
        self.running -= 1
        flow.running -= 1
        flow.reserved = flow.reserved - turn.charge if flow.running else 0.0
        flow.served += turn.charge if tokens is None else tokens / turn.weight
        self._changed(flow)
        self._rest()

    def _flow(self, turn: Turn) -> Flow:
        flow = self.flows.get(turn.user)
        if flow is None:
            if len(self.flows) >= self._sweep_at:
                self._sweep()
            flow = self.flows[turn.user] = Flow(turn.user, 0.0)
        if not flow.queues:
            flow.served = max(flow.served, self._lift())
        flow.weight = turn.weight
        turn.flow = flow
        return flow

    def _lift(self) -> float:
        """The level of those who were served last, or of one who waits and is behind it."""
        return min([self._level, *(lane.first().flow.served for lane in self.lanes.values())])

    def _changed(self, flow: Flow) -> None:
        flow.version += 1
        for lane in flow.queues:
            lane.push(flow)

    def _rest(self) -> None:
        """Nobody waits and nothing runs: nobody owes anything."""
        if not self.waiting and not self.running:
            self.flows.clear()
            self._level = 0.0

    def _sweep(self) -> None:
        level = self._lift()
        for user in [user for user, flow in self.flows.items() if not flow.queues and not flow.running and flow.served <= level]:
            del self.flows[user]
        self._sweep_at = max(1024, 2 * len(self.flows))

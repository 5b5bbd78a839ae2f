"""Limits, turns and slots: what `paddock_gateway.contract.Dispatcher` asks for.

Back ends that have models in common share a queue; what a user takes of others is not held against it there. A user's requests are in order
model by model: one that waits for a model that is not loaded holds up none for another.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from itertools import count

from paddock_gateway.contract import Ask, BackendState, Figures, Forecast, Lender, Place, Used
from paddock_gateway.errors import Failure
from paddock_gateway.fair.admission import Admission
from paddock_gateway.fair.backends import Backend, Backends, queues
from paddock_gateway.fair.outlook import Outlook, position
from paddock_gateway.fair.request import Kept, Request, Spot
from paddock_gateway.fair.schedule import Candidates, Schedule
from paddock_gateway.settings import Configuration

KEPT_S = 60.0
"""A reservation that `again` kept, and that nobody came back for, ends after so long."""
NOW = Forecast(0, 0.0)


class FairDispatcher:
    def __init__(self, configuration: Configuration, clock: Callable[[], float] = time.monotonic, lender: Lender | None = None) -> None:
        """`clock` gives seconds from any moment on."""
        self._clock = clock
        self._settings = configuration.queue
        self._cooldown_s, self._none_up_s = configuration.health.cooldown_s, configuration.health.wait_s
        self._shared = configuration.shared_system_prompt
        self._queue_of = queues(configuration.models)
        self._queues = list({id(queue): queue for queue in self._queue_of.values()}.values())
        self._backends = Backends(self._settings.swap_bound_s, self._shared)
        self._admission = Admission(configuration, lender, clock)
        self._numbers = count(1)
        self._running: dict[int, tuple[Place, Request]] = {}
        """By the id of their place."""
        self._kept = Kept()
        self._waiting_of: dict[str, int] = {}
        self._fell: dict[str, float] = {}
        """When each back end that is down, or was, stopped to be up."""
        self._outlook = Outlook()
        self._draining = False
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._at_rest = asyncio.Event()

    async def place(self, ask: Ask) -> Place:
        now = self._clock()
        request = self._kept.take(ask) if ask.exclude else None
        if request is None:
            if self._draining:
                raise Failure(503, "The gateway takes no new requests: it is about to stop.", "draining", retry_after_s=self._cooldown_s)
            try:
                allowance = await self._admission.allow(ask, now, lambda: self._outlook.service_s(ask.model))
            except BaseException:
                self._rest()
                raise
            request = Request(ask, next(self._numbers), now, allowance, self._queue(ask))
        try:
            candidates = _candidates(ask)
            if not self._backends.up(candidates) and (ask.exclude or self._clock() >= self._given_up_at(candidates)):
                raise self._none_left(ask.model)
            # one that takes no slot is in the way of none that waits for one
            at_once = None if request.queue.waiting and ask.places else self._give(request, candidates)
            return at_once or await self._wait(request, candidates)
        except BaseException:
            self._give_back(request)
            raise

    async def _wait(self, request: Request, candidates: Candidates) -> Place:
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[Place] = loop.create_future()
        request.granted = granted
        request.since = self._clock()
        request.position = position(request.queue, request.ask, candidates)
        request.queue.join(request, request.ask.model, candidates)
        self._waiting_of[request.user] = self._waiting_of.get(request.user, 0) + 1
        timer: asyncio.TimerHandle | None = None
        try:
            self._serve(request.queue)
            if granted.done():  # others wait, but not for what it wants
                request.position = 0
            else:
                self._check_room(request, candidates)
                timer = loop.call_later(max(0.0, self._settings.wait_s - request.waited_s), self._expire, request, candidates)
                if not self._backends.up(candidates):
                    self._stranded(request, candidates)
            place = await granted
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._end(granted.result(), 0, whole=False)
            else:
                if request.lane is not None:
                    self._leave(request)
                self._serve(request.queue)
            raise
        finally:
            request.waited_s += self._clock() - request.since
            if timer is not None:
                timer.cancel()
        place.position, place.queued_s = request.position, request.waited_s
        return place

    def _check_room(self, request: Request, candidates: Candidates) -> None:
        """It has joined already: only then it is known whether it has to wait."""
        mine, everybody = self._waiting_of[request.user], sum(queue.waiting for queue in self._queues)
        if mine > self._settings.per_user:
            told = f'{mine - 1} requests of user "{request.user}" wait already, and the queue takes {self._settings.per_user} of each user.'
        elif everybody > self._settings.length:
            told = f"{everybody - 1} requests wait already, and the queue takes {self._settings.length}."
        else:
            return
        raise self._admission.limiter.refused("queue", told, self._forecast(request.ask, candidates).wait_s)

    def _expire(self, request: Request, candidates: Candidates) -> None:
        if request.lane is None:  # it has just had its turn
            return
        told = f"No place came free in {self._settings.wait_s:g} seconds."
        self._fail(request, self._admission.limiter.refused("wait", told, self._forecast(request.ask, candidates).wait_s))

    def _stranded(self, request: Request, candidates: Candidates) -> None:
        """None of its back ends is up: it waits for one that was a moment ago, as over a restart."""
        left_s = max(0.0, self._given_up_at(candidates) - self._clock())
        asyncio.get_running_loop().call_later(left_s, self._give_up, request, candidates)

    def _given_up_at(self, candidates: Candidates) -> float:
        """Until when one of them is waited for."""
        return max((self._fell[name] + self._none_up_s for name, _ in candidates if name in self._fell), default=0.0)

    def _give_up(self, request: Request, candidates: Candidates) -> None:
        if request.lane is not None and not self._backends.up(candidates):
            self._fail(request, self._none_left(request.ask.model))

    def _fail(self, request: Request, failure: Failure) -> None:
        if request.granted is not None and not request.granted.done():
            self._leave(request)
            request.granted.set_exception(failure)

    def _leave(self, request: Request) -> None:
        request.queue.leave(request)
        self._left(request.user)

    def _left(self, user: str) -> None:
        self._waiting_of[user] -= 1
        if not self._waiting_of[user]:
            del self._waiting_of[user]
        self._rest()

    def _serve(self, queue: Schedule) -> None:
        """Gives away every place that one of those who wait can have now."""
        self._backends.later = float("inf")
        while queue.waiting and self._serve_one(queue):
            pass
        timer = self._timers.pop(id(queue), None)
        if timer is not None:
            timer.cancel()
        if queue.waiting and self._backends.later < float("inf"):
            # A millisecond more, so that a clock that is a rounding behind does not bring it here twice.
            delay_s = max(0.0, self._backends.later - self._clock()) + 0.001
            self._timers[id(queue)] = asyncio.get_running_loop().call_later(delay_s, self._serve, queue)

    def _serve_one(self, queue: Schedule) -> bool:
        heads = [(lane.first(), lane.candidates) for lane in queue.lanes.values()]
        if len(heads) > 1:
            heads.sort(key=lambda head: head[0].rank)
        for request, candidates in heads:
            assert isinstance(request, Request) and request.granted is not None
            if request.granted.done():  # cancelled a moment ago
                self._leave(request)
                return True
            place = self._give(request, candidates)
            if place is not None:
                self._left(request.user)
                request.granted.set_result(place)
                return True
        return False

    def _give(self, request: Request, candidates: Candidates) -> Place | None:
        ask, now = request.ask, self._clock()
        found = self._backends.spot(ask, candidates, request.queue.lanes.values(), now)
        if found is None:
            return None
        backend, process, slots, model = found
        cache = bool(slots) and not ask.scattered and process.may_cache(slots[0], request.user, ask.prefixes, self._shared)
        backend.start(process, slots, ask.scattered, now)
        request.queue.start(request)
        request.spot = Spot(backend, process, slots, process.epoch, now)
        place = Place(backend.name, model, slots[0].number if slots and not process.unnumbered else None, cache)
        self._running[id(place)] = place, request
        return place

    def done(self, place: Place, used: Used | None, *, whole: bool) -> None:
        tokens = None if used is None else used.prompt_tokens + used.completion_tokens
        request = self._end(place, tokens, whole=whole)
        if request is not None:
            self._admission.settle(request.allowance, tokens, self._clock())

    def again(self, place: Place) -> None:
        request = self._end(place, 0, whole=False)
        if request is not None:
            self._kept.add(request)
            asyncio.get_running_loop().call_later(KEPT_S, self._forgotten, request)

    def _end(self, place: Place, tokens: int | None, *, whole: bool) -> Request | None:
        """Frees the slot. None where that was done before."""
        _, request = self._running.pop(id(place), (None, None))
        if request is None or request.spot is None:
            return None
        spot, now = request.spot, self._clock()
        request.spot = None
        if (whole or place.begun) and spot.slots and spot.epoch == spot.process.epoch:
            spot.slots[0].user, spot.slots[0].prefixes = request.user, request.ask.prefixes
        if whole:
            self._outlook.took(request.ask.model, now - spot.started)
        spot.backend.end(spot.process, spot.slots, request.ask.scattered, now)
        request.queue.settle(request, tokens)
        if request.queue.waiting:
            self._serve(request.queue)
        self._rest()
        return request

    def _forgotten(self, request: Request) -> None:
        if self._kept.drop(request):
            self._give_back(request)

    def _give_back(self, request: Request) -> None:
        self._admission.give_back(request.allowance)
        self._rest()

    def forecast(self, ask: Ask) -> Forecast:
        lanes, candidates = self._queue(ask).lanes, _candidates(ask)
        spot = self._backends.spot(ask, candidates, lanes.values(), self._clock())
        if spot is not None and (ask.model, candidates) not in lanes:
            return NOW
        return self._forecast(ask, candidates)

    def _forecast(self, ask: Ask, candidates: Candidates) -> Forecast:
        place = position(self._queue(ask), ask, candidates)
        return Forecast(place, self._outlook.wait_s(ask.model, place, self._backends.places(candidates)))

    def _none_left(self, model: str) -> Failure:
        return Failure(503, f'No back end of model "{model}" is up.', "no_backend", retry_after_s=self._cooldown_s)

    def update(self, backend: str, state: BackendState) -> None:
        found = self._backends.all.setdefault(backend, Backend(backend))
        fell = found.up and not state.up
        if fell:
            self._fell[backend] = self._clock()
        found.update(state)
        for queue in self._queues:
            for lane in queue.lanes.values() if fell else ():
                if not self._backends.up(lane.candidates):
                    for request in lane.turns:
                        assert isinstance(request, Request)
                        self._stranded(request, lane.candidates)
            if queue.waiting:
                self._serve(queue)

    def drain(self) -> None:
        self._draining = True

    def resume(self) -> None:
        self._draining = False

    @property
    def draining(self) -> bool:
        return self._draining

    async def idle(self) -> None:
        while self._busy():
            self._at_rest.clear()
            await self._at_rest.wait()
        if self._draining and self._admission.leases is not None:
            await self._admission.leases.return_all()

    def _busy(self) -> bool:
        return bool(self._running or self._waiting_of or self._kept.requests or self._admission.entering)

    def _rest(self) -> None:
        if not self._busy():
            self._at_rest.set()

    def figures(self) -> Figures:
        waiting: Counter[str] = Counter()
        for lane in (lane for queue in self._queues for lane in queue.lanes.values()):
            waiting[lane.model] += len(lane.turns)
        backends = self._backends.all
        return Figures(
            waiting=waiting.total(),
            running=len(self._running),
            waiting_by_model=dict(waiting),
            running_by_backend={name: backend.running for name, backend in backends.items()},
            slots_by_backend={name: backend.places for name, backend in backends.items()},
            swaps_by_backend={name: backend.swaps for name, backend in backends.items()},
            limited=dict(self._admission.limited),
        )

    def _queue(self, ask: Ask) -> Schedule:
        return self._queue_of[ask.targets[0][0]]


def _candidates(ask: Ask) -> Candidates:
    return tuple(target for target in ask.targets if target[0] not in ask.exclude) if ask.exclude else ask.targets

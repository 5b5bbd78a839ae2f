"""The back ends as the gateway believes them to be, and where a request can go now. Pure: no clock, no loop.

A back end has as many places as slots. Each model of a router runs in a process with slots of its own. What a router has loaded is known
from each look at it, and believed from what was sent there since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from paddock_gateway.contract import Ask, BackendState
from paddock_gateway.fair.affinity import Process, Rank, Slot
from paddock_gateway.fair.schedule import Candidates, Lane, Schedule
from paddock_gateway.settings import Model

LINGER_S = 1.0
"""A model that has just been used stays so long although nobody waits for it: its user's next request is often on its way, and a swap
costs more than this (Iyer, Druschel: Anticipatory Scheduling, SOSP 2001)."""


class Backend:
    def __init__(self, name: str) -> None:
        self.name, self.up, self.slots, self.swaps, self.running = name, False, 0, 0, 0
        self.router = False
        self.models_max = 0
        self.slots_of: Mapping[str, int] = {}
        self.loaded: OrderedDict[str, None] = OrderedDict()
        """A router's models, the least recently used first."""
        self.processes: dict[str, Process] = {}

    @property
    def limited(self) -> bool:
        """Whether loading a model may cost another its place."""
        return self.router and self.models_max > 0

    @property
    def places(self) -> int:
        if not self.up:
            return 0
        return sum(self.places_of(model) for model in self.loaded) or max(1, self.slots)

    def places_of(self, model: str) -> int:
        return max(1, self.slots_of.get(model, self.slots))

    def process(self, model: str) -> Process:
        key = model if self.router else ""
        process = self.processes.get(key)
        if process is None:
            process = self.processes[key] = Process(key, self.slots_of.get(key, self.slots))
        return process

    def has(self, model: str) -> bool:
        return not self.limited or model in self.loaded

    def update(self, state: BackendState) -> None:
        if (state.loaded is not None) != self.router or (self.up and not state.up):
            self._forget(self.processes)
        self.up, self.slots, self.models_max, self.slots_of = state.up, state.slots, state.models_max, state.slots_of
        self.router = state.loaded is not None
        for process in self.processes.values():
            process.resize(state.slots_of.get(process.model, state.slots))
        said = state.loaded or frozenset()
        # A model that was just asked for may still be loading.
        kept = [model for model in self.loaded if model in said or (model in self.processes and self.processes[model].active)]
        self._forget(set(self.loaded) - set(kept))
        self.loaded = OrderedDict.fromkeys([*sorted(said - set(kept)), *kept])
        while self.limited and len(self.loaded) > self.models_max:  # a look in the middle of a swap
            leaving = self.leaving()
            self._forget((leaving,))
            del self.loaded[leaving]

    def _forget(self, models: Iterable[str]) -> None:
        for model in list(models):
            if model not in self.processes:
                continue
            self.processes[model].forget()
            if not self.processes[model].active:
                del self.processes[model]

    def start(self, process: Process, slots: Sequence[Slot], scattered: bool, now: float) -> None:
        if self.router:
            if process.model not in self.loaded:
                if self.limited and len(self.loaded) >= self.models_max:
                    leaving = self.leaving()
                    self._forget((leaving,))
                    self.loaded.pop(leaving)
                    self.swaps += 1
                process.loaded_at = now
                process.forget()
            self.loaded[process.model] = None
            self.loaded.move_to_end(process.model)
        self.running += 1
        process.start(slots, scattered)

    def end(self, process: Process, slots: Sequence[Slot], scattered: bool, now: float) -> None:
        self.running -= 1
        process.end(slots, scattered, now)

    def leaving(self) -> str:
        """The model that the next swap costs: as llama-server's router (0.3.36, pick_victim in server-models.cpp) chooses it, the least
        recently used of the idle ones. Where none is idle, the least recently used is the one to wait for."""
        idle = (model for model in self.loaded if model not in self.processes or not self.processes[model].active)
        return next(idle, next(iter(self.loaded)))


class Backends:
    def __init__(self, swap_bound_s: float, shared: bool) -> None:
        self._bound_s, self._shared = swap_bound_s, shared
        self.all: dict[str, Backend] = {}
        self.later = float("inf")
        """The earliest moment at which a look at what waits may find a place by the passing of time alone."""

    def up(self, candidates: Candidates) -> bool:
        return any(name in self.all and self.all[name].up for name, _ in candidates)

    def places(self, candidates: Candidates) -> int:
        return sum(self.all[name].places_of(model) for name, model in candidates if name in self.all and self.all[name].up)

    def spot(
        self, ask: Ask, candidates: Candidates, lanes: Iterable[Lane], now: float
    ) -> tuple[Backend, Process, tuple[Slot, ...], str] | None:
        """Where a request can go now: to a back end that has the model loaded, else to one with room for it, else to one that swaps."""
        best: tuple[int, Rank] | None = None
        found = None
        for name, model in candidates:
            backend = self.all.get(name)
            if backend is None or not backend.up:
                continue
            process = backend.process(model)
            if not process.has_free(ask.places):
                continue
            cost = self._cost(backend, model, candidates, lanes, now) if backend.limited else 0
            if cost is None or (best is not None and cost > best[0]):
                continue
            rank, slots = self._ranked(process, ask)
            if best is None or (cost, rank) < best:
                best, found = (cost, rank), (backend, process, slots, model)
        return found

    def _ranked(self, process: Process, ask: Ask) -> tuple[Rank, tuple[Slot, ...]]:
        slot = process.best(ask.account.user, ask.prefixes, self._shared) if ask.places else None
        return (slot[0], process.taken(slot[1], ask.places)) if slot else ((process.running / process.places,), ())

    def _cost(self, backend: Backend, model: str, candidates: Candidates, lanes: Iterable[Lane], now: float) -> int | None:
        """0: the model is there; 1: there is room for it; 2: a swap; None: not now."""
        if model in backend.loaded:
            return None if self._gives_way(backend, model, lanes, now) else 0
        if len(backend.loaded) < backend.models_max:
            return 1
        leaving = backend.leaving()
        process = backend.process(leaving)
        if process.active:
            return None
        due = [lane for lane in lanes if self._due(backend, leaving, lane, now)]
        if due:  # by age, not by share: a user who was served much elsewhere is not to wait for each of the others' models
            return 2 if (backend.name, model) in min(due, key=lambda lane: lane.since).candidates else None
        if any((backend.name, leaving) in lane.candidates for lane in lanes):
            return None
        # Where the model has another back end, which is only busy, the one that is to leave must be out of use.
        at = process.ended + (self._bound_s if self._loaded(candidates) else LINGER_S)
        if now >= at:
            return 2
        self.later = min(self.later, at)
        return None

    def _gives_way(self, backend: Backend, model: str, lanes: Iterable[Lane], now: float) -> bool:
        """Whether a model that is loaded takes no more requests, since another's have waited long enough."""
        return model == backend.leaving() and any(self._due(backend, model, lane, now) for lane in lanes)

    def _due(self, backend: Backend, leaving: str, lane: Lane, now: float) -> bool:
        """Whether the lane's requests may make the model leave: they have no back end that has theirs, and the bound is over, which counts
        from when the oldest of them came or, where that is later, from when the model was loaded: else two models with long queues
        would swap at each request."""
        if not any(name == backend.name for name, _ in lane.candidates):
            return False
        if self._loaded(lane.candidates):
            return False
        due = max(lane.since, backend.process(leaving).loaded_at) + self._bound_s
        if now < due:
            self.later = min(self.later, due)
        return now >= due

    def _loaded(self, candidates: Candidates) -> bool:
        """Whether one of them can answer without loading anything."""
        return any(name in self.all and self.all[name].up and self.all[name].has(model) for name, model in candidates)


def queues(models: Mapping[str, Model]) -> dict[str, Schedule]:
    """The queue of each back end. Those that have a model in common, directly or through others, have one queue."""
    found: dict[str, Schedule] = {}
    for model in models.values():
        names = {target.backend for target in model.targets}
        joined = {id(found[name]) for name in names if name in found}
        names |= {name for name, queue in found.items() if id(queue) in joined}
        found |= dict.fromkeys(names, Schedule())
    return found

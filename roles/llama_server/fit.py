"""What fits together on a host's cards and in its memory; and where it does not, the nearest settings that do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from inventory.model_shape import ModelShape
from inventory.options import OLDER, Sizing
from roles.llama_server.beside import beside
from roles.llama_server.caches import cache_bytes, takes_type
from roles.llama_server.memory import MIB, Memory, MemoryNeeds, needs
from roles.llama_server.memory_options import ROW_BYTES, MemoryOptions, Value, asked_context, memory_options, settled
from roles.llama_server.splitting import split_of
from roles.preset import is_on

PROCESS_MIB = 100
"""Of a server in host memory, beside llama.cpp's buffers."""

CONTEXT_MIB = {"cuda": 256, "vulkan": 64, "hip": 256}
"""Of a server on each of its cards, beside llama.cpp's buffers: the driver's context, and the scratch space of its kernels."""

DEVICE_NAMES = {"cuda": "CUDA", "vulkan": "Vulkan", "hip": "ROCm"}
"""What a backend's devices are called, with a number behind."""

SYSTEM_MIB, SYSTEM_SHARE = 512, 16
"""What is left to the rest of a host: this much, or this part of its memory where that is more."""

HOST, GRAPHICS = "host memory", "graphics memory"

CONTEXT_LEAST, CONTEXT_STEP = 4096, 1024
SIXTEENTHS = range(16, 0, -1)
CACHE_TYPES = ("q8_0", "q4_0")
"""What the cache may be advised to be, in this order; more fits, and answers lose a little."""


PRICE = {"": 0.0, "prompts": 0.5, "q8_0": 1.0, "fewer": 1.5, "half": 2.0, "q4_0": 4.0}
"""What it costs to give up the cache of prompts, the KV cache's precision, a model at a time, half of the context."""


@dataclass(frozen=True)
class Load:
    """A model as a server serves it. `where` is the place in the inventory that its options are to be changed at."""

    model: str
    shape: ModelShape
    preset: Mapping[str, Value]
    where: str
    sizing: Sizing = OLDER
    """Of the version of llama.cpp that serves it."""
    beside: tuple[tuple[str, ModelShape], ...] = ()
    """What is loaded beside it: key of the model, `mmproj`, and shape."""
    named: frozenset[str] = frozenset()
    """The options that name files of the inventory."""

    @property
    def options(self) -> MemoryOptions:
        """Raises PaddockError where the preset has a value that llama-server does not take."""
        return memory_options(self.preset, self.sizing)


@dataclass(frozen=True)
class Demand:
    """One server, the cards that it uses (none: it computes on the processor), and how many of its models are loaded at a time."""

    server: str
    loads: tuple[Load, ...]
    cards: tuple[str, ...] = ()
    at_once: int = 0
    """0: all of them."""
    where: str = ""
    """The place in the inventory that says how many."""
    prompt_cache_mib: int = 0
    """What Paddock gives the prompts of each model that is loaded, where the inventory does not say it of one (`cache-ram`)."""
    memory_max_mib: int = 0
    """What systemd lets the server have of the host's memory; 0: no limit."""
    unified: bool = False
    """Whether it takes of the host's memory what its cards have no room for."""

    @property
    def limit(self) -> str:
        return f"memory_max of {self.server}"

    def prompts_mib(self, load: Load) -> int:
        """The most that a model's cache of prompts takes of the host's memory."""
        said = bool(load.preset.keys() & {"cache-ram", "cram"})
        return load.options.prompt_cache_mib if said else self.prompt_cache_mib


@dataclass(frozen=True)
class Elsewhere:
    """A device of another host. `memory_mib` is what it says that it has, of a processor all memory of its host."""

    memory_mib: int
    backend: str = "cpu"


@dataclass(frozen=True)
class ServingMemory:
    """What a host has for its servers. Rooms are MiB, 0 where nobody knows."""

    memory_mib: int
    """What the servers may take of its memory, see `for_servers`."""
    cards: Mapping[str, int] = field(default_factory=dict)
    """Its own, and what other hosts compute on for it."""
    backend: str = "cpu"
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)
    """Which of the cards are other hosts'."""
    graphics_mib: int = 0
    """What of its memory graphics in the processor may take; 0: nobody has said it."""

    def share(self, card: str) -> int:
        """What llama.cpp splits a model's layers by: what a device says that it has."""
        other = self.elsewhere.get(card)
        return max(other.memory_mib if other else self.cards[card], 1)

    def device_names(self, cards: Sequence[str]) -> tuple[str, ...]:
        """What llama.cpp calls a server's devices, which are these: `RPC0`, `CUDA0`, `CUDA1`. Those of one backend have numbers from 0."""
        kinds = ["RPC" if card in self.elsewhere else DEVICE_NAMES.get(self.backend, self.backend) for card in cards]
        return tuple(f"{kind}{kinds[:at].count(kind)}" for at, kind in enumerate(kinds))

    def context(self, card: str) -> Memory:
        """Of a server on one of its devices, beside llama.cpp's buffers."""
        other = self.elsewhere.get(card)
        return Memory(other=CONTEXT_MIB.get(other.backend if other else self.backend, 0) * MIB)


@dataclass(frozen=True)
class Row:
    """A model in one place."""

    server: str
    model: str
    memory: Memory
    needs: MemoryNeeds


@dataclass(frozen=True)
class MemoryPool:
    """A card, or the host's memory."""

    name: str
    room_mib: int
    """0 where nobody knows."""
    rows: tuple[Row, ...]
    used: int
    """Bytes that are taken at a time: of a server that loads only some of its models at a time, by the largest of them. What a card has no
    room for, and its server takes of the host's memory, is there."""

    @property
    def left_mib(self) -> int:
        """Less than nothing where it does not fit."""
        return self.room_mib - math.ceil(self.used / MIB)

    @property
    def fits(self) -> bool:
        return not self.room_mib or self.left_mib >= 0


@dataclass(frozen=True)
class InventoryChange:
    """What to write into the inventory: at `where`, these values."""

    where: str
    values: Mapping[str, Value]

    def __str__(self) -> str:
        return f"{self.where}: {{{', '.join(f'{name}: {value}' for name, value in self.values.items())}}}"


@dataclass(frozen=True)
class _Step:
    """How far to go from what was asked for: the KV cache's type, sixteenths of the context, how many models fewer at a time."""

    kind: str = ""
    part: int = 16
    fewer: int = 0
    less_prompt_cache: bool = False


def for_servers(memory_mib: int) -> int:
    """What of a host's memory its servers may take: 0 where nobody knows it, and 1 of a host that is too small for any of them."""
    return max(memory_mib - max(SYSTEM_MIB, memory_mib // SYSTEM_SHARE), 1) if memory_mib else 0


def fit(machine: ServingMemory, demands: Sequence[Demand]) -> tuple[MemoryPool, ...]:
    """Every place and what it carries: the cards in their order, then the host's memory; and the limits of servers that are too small."""
    limits: list[MemoryPool] = []
    rows: dict[str, list[list[Row]]] = {name: [] for name in (*machine.cards, HOST)}
    used, unified = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
    for demand in demands:
        by_place: dict[str, list[Row]] = {}
        for load in demand.loads:
            shares, names = tuple(map(machine.share, demand.cards)), machine.device_names(demand.cards)
            taken = _needs(load.shape, load.options, *split_of(load.preset, names, shares))
            further, further_here = beside(load.beside, load.shape, load.options, load.preset, names, shares)
            for card, memory, more in zip(demand.cards, taken.cards, further, strict=True):
                if (both := memory + more).total:
                    by_place.setdefault(card, []).append(Row(demand.server, load.model, both + machine.context(card), taken))
            process = Memory(other=(PROCESS_MIB + demand.prompts_mib(load)) * MIB)
            by_place.setdefault(HOST, []).append(Row(demand.server, load.model, taken.host + further_here + process, taken))
        for place, each in by_place.items():
            rows[place].append(each)
            largest = sorted((row.memory.total for row in each), reverse=True)
            taken_here = sum(largest[: demand.at_once or None])
            used[place] += taken_here
            unified[place] += taken_here if demand.unified and place != HOST else 0
            if place == HOST and demand.memory_max_mib:
                limits.append(MemoryPool(demand.limit, demand.memory_max_mib, tuple(each), taken_here))
    room = {**machine.cards, HOST: machine.memory_mib}
    for card in machine.cards:
        beyond = min(max(used[card] - room[card] * MIB, 0), unified[card]) if room[card] else 0
        used[card], used[HOST] = used[card] - beyond, used[HOST] + beyond
    places = (MemoryPool(name, room[name], tuple(row for each in rows[name] for row in each), used[name]) for name in rows)
    if machine.graphics_mib:
        limits.append(graphics(machine, demands))
    return (*places, *(limit for limit in limits if not limit.fits))


def graphics(machine: ServingMemory, demands: Sequence[Demand]) -> MemoryPool:
    """What of a host's memory its graphics take, which are a part of the processor."""
    names, shares = machine.device_names(["graphics"]), (1,)
    rows, used = list[Row](), 0
    for demand in demands:
        mine = []
        for load in demand.loads:
            taken = _needs(load.shape, load.options, *split_of(load.preset, names, shares))
            (more,), _ = beside(load.beside, load.shape, load.options, load.preset, names, shares)
            mine.append(Row(demand.server, load.model, taken.cards[0] + more, taken))
        rows += mine
        used += sum(sorted((row.memory.total for row in mine), reverse=True)[: demand.at_once or None])
    return MemoryPool(GRAPHICS, machine.graphics_mib, tuple(rows), used)


_needs = lru_cache(1 << 12)(needs)
"""`nearest` asks for the same ones again and again."""


def nearest(machine: ServingMemory, demands: Sequence[Demand]) -> tuple[InventoryChange, ...] | None:
    """The settings nearest to those asked for that fit: () where these do, None where none do.

    Tried are a smaller cache of prompts where the host's memory is short, a KV cache of q8_0 and of q4_0, sixteenths of the context, and
    fewer models at a time; only if all of that is not enough, fewer layers on the cards. Nearest is what costs least, see PRICE. What is
    asked for at one place of the inventory is changed there for all that it holds for.
    """
    over = {place.name for place in fit(machine, demands) if not place.fits}
    if not over:
        return ()
    concerned = [each for each in demands if over & {*each.cards, HOST, GRAPHICS, each.limit}]
    places = {load.where for each in concerned for load in each.loads}
    most = max((each.at_once or len(each.loads) for each in concerned), default=1)
    for step in sorted(_steps(most, host_is_short=not over <= machine.cards.keys()), key=_price):
        changes = tuple(_changes(demands, places, step))
        if changes and all(place.fits for place in fit(machine, applied(demands, changes))):
            return changes
    return _fewer_layers(machine, demands, places)


def _steps(most: int, *, host_is_short: bool) -> Iterator[_Step]:
    for kind in ("", *CACHE_TYPES):
        for part in SIXTEENTHS:
            for fewer in range(most):
                yield _Step(kind, part, fewer)
                if host_is_short:
                    yield _Step(kind, part, fewer, less_prompt_cache=True)


def _price(step: _Step) -> float:
    halvings = math.log2(16 / step.part)
    return PRICE[step.kind] + PRICE["half"] * halvings + PRICE["fewer"] * step.fewer + PRICE["prompts"] * step.less_prompt_cache


def applied(demands: Sequence[Demand], changes: Sequence[InventoryChange]) -> tuple[Demand, ...]:
    """The demands as they are once the inventory says so."""
    values = {change.where: change.values for change in changes}
    changed = []
    for demand in demands:
        loads = tuple(replace(load, preset=_with(load.preset, values.get(load.where, {}))) for load in demand.loads)
        at_once = values.get(demand.where, {}).get("models_max", demand.at_once)
        changed.append(replace(demand, loads=loads, at_once=int(at_once)))
    return tuple(changed)


# An option is replaced whatever its spelling: `c` and `ctx-size` in one preset would be two words on one thing.
SHORT = {"ctx-size": "c", "cache-type-k": "ctk", "cache-type-v": "ctv", "cache-ram": "cram"}


def _with(preset: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    gone = {SHORT[name] for name in values if name in SHORT} | ({"ngl", "gpu-layers"} if "n-gpu-layers" in values else set())
    return {**{name: value for name, value in preset.items() if name not in gone}, **values}


def _changes(demands: Sequence[Demand], places: set[str], step: _Step) -> Iterator[InventoryChange]:
    """What a step means for each place in the inventory."""
    loads = {load.where: (load, demand) for demand in demands for load in demand.loads if load.where in places}
    for where, (load, demand) in loads.items():
        prompts: dict[str, Value] = {"cache-ram": demand.prompts_mib(load) // 8} if step.less_prompt_cache else {}
        if values := {**_shorter(load, step.part), **_narrower(load, step.kind), **prompts}:
            yield InventoryChange(where, values)
    for demand in demands:
        now = demand.at_once or len(demand.loads)
        least = max(1, sum(is_on(load.preset.get("load-on-startup", False)) for load in demand.loads))
        if demand.where and step.fewer and now > least and any(load.where in places for load in demand.loads):
            yield InventoryChange(demand.where, {"models_max": max(now - step.fewer, least)})


def _shorter(load: Load, part: int) -> dict[str, Value]:
    options = settled(load.shape, load.options)
    asked = asked_context(load.shape, load.options)
    wanted = max(asked * part // 16 // CONTEXT_STEP * CONTEXT_STEP, CONTEXT_LEAST)
    return {"ctx-size": wanted} if wanted < asked and any(cache_bytes(load.shape, options)) else {}


def _narrower(load: Load, kind: str) -> dict[str, Value]:
    options = settled(load.shape, load.options)
    if not kind or not options.flash_attention or not takes_type(load.shape, kind) or not any(cache_bytes(load.shape, options)):
        return {}
    wider = any(ROW_BYTES[each] > ROW_BYTES[kind] for each in (options.type_k, options.type_v))
    return {"cache-type-k": kind, "cache-type-v": kind} if wider else {}


def _fewer_layers(machine: ServingMemory, demands: Sequence[Demand], places: set[str]) -> tuple[InventoryChange, ...] | None:
    """The most layers on the cards that fit, and the rest in the host's memory."""
    loads = {load.where: load for each in demands if each.cards for load in each.loads if load.where in places}
    most = max((len(each.loads) for each in demands), default=0)
    blocks = max((load.shape.block_count for load in loads.values()), default=0)
    for layers in range(blocks, -1, -1):
        for step in (_Step("q8_0"), _Step("q8_0", 4), _Step("q4_0", 1, most, less_prompt_cache=True)):
            base = {change.where: dict(change.values) for change in _changes(demands, places, step)}
            for where, load in loads.items():
                if layers <= load.shape.block_count:
                    base.setdefault(where, {})["n-gpu-layers"] = layers
            changes = tuple(InventoryChange(where, values) for where, values in base.items())
            if all(place.fits for place in fit(machine, applied(demands, changes))):
                return changes
    return None


def refusal(place: MemoryPool, changes: tuple[InventoryChange, ...] | None) -> str:
    """One line for a place that is overfull: what, where, what to do."""
    who = " and ".join(dict.fromkeys(f"{row.model} ({row.server})" for row in place.rows))
    lack = f"{place.name} has {place.room_mib} MiB and would need {math.ceil(place.used / MIB)} for {who}"
    if changes:
        return f"{lack}; the nearest that fits is {', '.join(map(str, changes))}"
    return f"{lack}; no context and no KV cache makes that fit: take a smaller model or quantization, or serve fewer there"

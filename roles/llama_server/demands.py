"""What the servers of a host ask of it, out of the inventory: the input of `fit`; and what follows for the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware, shares_memory
from inventory.knowledge import Knowledge
from inventory.model_shape import ModelShape
from inventory.options import OLDER
from resources import Release
from roles.llama_server.cards import Installed, installed
from roles.llama_server.drafting import OPTION, unclear
from roles.llama_server.environment import is_unified
from roles.llama_server.fit import (
    HOST,
    PROCESS_MIB,
    Demand,
    Elsewhere,
    Load,
    MemoryPool,
    ServingMemory,
    fit,
    for_servers,
    graphics,
    nearest,
    refusal,
)
from roles.llama_server.loading import UNKNOWN, faults, remarks_on, unloadable
from roles.llama_server.overrides import overridden
from roles.llama_server.plan import defaults, mib
from roles.llama_server.settings import LlamaServerSettings
from roles.llama_server.splitting import asked_devices
from roles.server import Server

AMD = "1002"
"""The vendor's number on the PCI bus."""


def machine(host: str, fleet: Fleet, knowledge: Knowledge) -> ServingMemory | None:
    """What the host has for its servers; None where nobody has looked at it yet, or there can be no llama.cpp for it.

    Of cards that no driver tells the memory of, the room is not known. A GPU in the processor has none of its own: then it is the host's,
    and there is one room for both.
    Beside one, which of the GPUs it is, is not known, so what amdgpu says of its little memory counts for none.
    """
    hardware = knowledge.hardware.get(host)
    if not hardware or isinstance(knowledge.releases.get(host), PaddockError):
        return None
    others = {name: found for server in fleet.servers(host) for name, found in _elsewhere(server, fleet, knowledge).items()}
    cards = {name: room for name, (room, _) in others.items()} | _rooms(host, fleet, knowledge)
    memory_mib = for_servers(hardware.memory_mib)
    if memory_mib and (worker := fleet.worker(host)):
        memory_mib = max(memory_mib - mib(worker.memory_max), 1)  # what it computes for others
    devices = {name: device for name, (_, device) in others.items()}
    return ServingMemory(memory_mib, cards, _backend(host, knowledge), devices, _graphics_mib(host, fleet, knowledge))


def _graphics_mib(host: str, fleet: Fleet, knowledge: Knowledge) -> int:
    """What graphics in the processor may take: what the inventory lets them have of the memory, and what the firmware sets apart; 0 where
    the inventory does not say it, or there are none."""
    said = max((each.graphics_mib() for each in fleet.hosts[host].carried.values()), default=0)
    return said + _set_apart_mib(knowledge.hardware[host]) if said and _computes_in_processor(host, knowledge) else 0


def _set_apart_mib(hardware: Hardware) -> int:
    return sum(each.memory_mib for each in hardware.gpus if each.vendor == AMD)


def _computes_in_processor(host: str, knowledge: Knowledge) -> bool:
    """Whether a host computes on AMD's graphics in its processor, and on no card."""
    kinds = {each.kind for each in knowledge.hardware[host].vulkan}
    has_amds = any(each.vendor == AMD for each in knowledge.hardware[host].gpus)
    return _backend(host, knowledge) == "vulkan" and has_amds and "integrated" in kinds and "discrete" not in kinds


def _rooms(host: str, fleet: Fleet, knowledge: Knowledge) -> dict[str, int]:
    """The MiB of each of a host's own cards, by its name; 0 where no driver says it."""
    hardware = knowledge.hardware[host]
    integrated = any(each.kind == "integrated" for each in hardware.vulkan)
    own = {} if integrated else {each.address: each.memory_mib for each in hardware.gpus}
    rooms = own | {each.address: each.memory_mib for each in hardware.nvidia_cards}
    return {_name(each): rooms.get(each.address, 0) for each in _cards(host, fleet, knowledge)}


def _elsewhere(server: Server, fleet: Fleet, knowledge: Knowledge) -> dict[str, tuple[int, Elsewhere]]:
    """By its name each device that the server's workers have, in llama.cpp's order: the MiB that it may take there, 0 where nobody knows,
    and the device. ggml-rpc-server offers all cards of its host, or else the processor (tools/rpc/rpc-server.cpp: get_devices)."""
    found: dict[str, tuple[int, Elsewhere]] = {}
    for worker in fleet.workers_of(server):
        hardware = knowledge.hardware.get(worker.host)
        cards = _rooms(worker.host, fleet, knowledge) if hardware else {}
        for card, room in cards.items():
            found[f"worker {worker.host}, {card}"] = (room, Elsewhere(room, _backend(worker.host, knowledge)))
        if not cards:
            all_mib, limit = hardware.memory_mib if hardware else 0, mib(worker.memory_max)
            room = min(filter(None, (for_servers(all_mib), limit)), default=0)
            found[f"worker {worker.host}"] = (max(room - PROCESS_MIB, 1) if room else 0, Elsewhere(all_mib or room))
    return found


def demands(host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape]) -> Iterator[Demand]:
    """One for each of the host's servers, with those of its models whose shape is known."""
    settings = fleet.role(host, "llama_server", LlamaServerSettings)
    hardware, servers = knowledge.hardware.get(host), fleet.servers(host)
    there, options, backend = _cards(host, fleet, knowledge), knowledge.options.get(host), _backend(host, knowledge)
    for server in servers:
        assert settings
        router = server.kind == "router"
        presets = {name: fleet.preset(server, name) for name in server.models if name in shapes}
        sizing = options.sizing if options else OLDER
        loads = tuple(
            Load(name, overridden(shapes[name], preset), preset, _where(server, name), sizing, *_beside(server, name, fleet, shapes))
            for name, preset in presets.items()
        )
        memory_mib = hardware.memory_mib if hardware else 0
        prompts = defaults(server, settings, memory_mib, 1 if router else len(servers), fleet.is_shared(server)).get("cache-ram", 0)
        own = map(_name, _in_order(server, there, backend))
        # RPC devices come first (src/llama.cpp: llama_prepare_model_devices).
        cards = (*_elsewhere(server, fleet, knowledge), *own)
        yield Demand(
            server.name,
            loads,
            cards,
            at_once=settings.models_max if router else 0,
            where=f"hosts.{host}.roles.llama_server" if router else "",
            prompt_cache_mib=int(prompts),
            memory_max_mib=mib(server.memory_max),
            unified=backend == "cuda" and is_unified(server, settings),
        )


def _in_order(server: Server, there: tuple[Installed, ...], backend: str) -> Iterator[Installed]:
    """The cards that a server may use. CUDA counts them in the order in which it is told them, Vulkan by their addresses."""
    if server.gpus and backend == "cuda":
        yield from (each for card in server.gpus for each in there if each.is_called(card))
    else:
        yield from (each for each in there if not server.gpus or any(map(each.is_called, server.gpus)))


def _beside(
    server: Server, model: str, fleet: Fleet, shapes: Mapping[str, ModelShape]
) -> tuple[tuple[tuple[str, ModelShape], ...], frozenset[str]]:
    """What is loaded beside a model, as far as it is known, and the options that name it."""
    entry = fleet.models[model]
    _, *others = entry.components(model)
    named = frozenset(fleet.own_preset(server.host, model)) - entry.preset.keys() if others else frozenset()
    named |= {OPTION} if entry.draft else frozenset()
    return tuple((each.key, shapes[each.name]) for each in others if each.name in shapes), named


def judged(host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape]) -> tuple[MemoryPool, ...]:
    """Every place of the host with what it carries; nothing where nobody has looked at the host yet."""
    found = machine(host, fleet, knowledge)
    return fit(found, tuple(_startable(demands(host, fleet, knowledge, shapes)))) if found else ()


def refusals(host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape]) -> Iterator[str]:
    """Why what the inventory asks of a host cannot be, a line each, with what to do: llama-server would not start a model so, or its
    llama.cpp has not the types of its tensors, or there is no room, with the nearest that has."""
    found, asked, options = machine(host, fleet, knowledge), tuple(demands(host, fleet, knowledge, shapes)), knowledge.options.get(host)
    loads = [load for demand in asked for load in demand.loads]
    yield from dict.fromkeys(line for load in loads for line in faults(load))
    if options:
        models = dict.fromkeys(load.model for load in loads)
        components = (each for name in models for each in fleet.models[name].components(name) if each.name in shapes)
        yield from (f"hosts.{host}: {line}" for each in components for line in unloadable(each.where, shapes[each.name], options))
    if found and isinstance(knowledge.releases.get(host), Release):
        yield from dict.fromkeys(line for demand in asked for line in _absent(demand, found, knowledge.hardware[host]))
    startable = tuple(_startable(asked))
    short = [place for place in fit(found, startable) if not place.fits] if found else []
    if found and short:
        changes = nearest(found, startable)
        yield from (f"hosts.{host}: {refusal(place, changes)}" for place in short)


def remarks(host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape]) -> Iterator[str]:
    """What works, and is still to be known, a line each: of contexts that slots do not get, and of what is not counted."""
    for demand in _startable(demands(host, fleet, knowledge, shapes)):
        yield from (line for load in demand.loads for line in remarks_on(load))
    yield from _half(host, fleet, knowledge, shapes)
    options = knowledge.options.get(host)
    for server in fleet.servers(host):
        for name in server.models:
            if unclear(server, name, fleet, knowledge):
                words = "nobody has read its header, so llama-server loads it and does not use it: say `spec-type` in the preset"
                yield f"hosts.{host}: models.{name}.draft: {words}, `draft-simple` if the draft is a model of its own"
    for name in _real(host, fleet):
        if options and options.tensor_types and name in shapes and not shapes[name].tensor_types:
            yield f"hosts.{host}: models.{name}: types of tensors unknown: not checked: `paddock models pull --lock {name}` notes them"


def _half(host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape]) -> Iterator[str]:
    """Where models need more of the machine's memory than the kernel lets graphics have unless it is told otherwise: half of it."""
    found = machine(host, fleet, knowledge)
    if not found or found.graphics_mib or not _computes_in_processor(host, knowledge):
        return
    hardware = knowledge.hardware[host]
    half = hardware.memory_mib // 2 + _set_apart_mib(hardware)
    pool = graphics(replace(found, graphics_mib=half), tuple(_startable(demands(host, fleet, knowledge, shapes))))
    if not pool.fits:
        words = f"models take {pool.used >> 20} MiB of the graphics at a time, which may take {half} unless the kernel is told otherwise"
        yield f"hosts.{host}: {words}: set `gpu: {{amd: {{gtt_mib: …}}}}`, if nothing else on the host does"


def unchecked(
    host: str, fleet: Fleet, knowledge: Knowledge, shapes: Mapping[str, ModelShape], unread: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Whose memory is not known, so that nobody can say whether it fits, and what to do to learn it. `unread` is why a model's header
    cannot be read, of those where somebody tried."""
    found, served = machine(host, fleet, knowledge), _real(host, fleet)
    if not served:
        return
    if isinstance(unbuilt := knowledge.releases.get(host), PaddockError):
        yield f"hosts.{host}: {UNKNOWN}: there can be no llama.cpp for it yet: {unbuilt}"
    elif not found:
        yield f"hosts.{host}: {UNKNOWN}: nobody has looked at its hardware yet: `paddock plan` does"
    elif not found.memory_mib:
        yield f"hosts.{host}: {HOST}: {UNKNOWN}: the host did not say how much it has: look at MemTotal in its /proc/meminfo"
    for card in (card for card, room_mib in (found.cards if found else {}).items() if not room_mib):
        advice = "no driver says how much it has: install its driver, or compare `paddock models fit` with the card's data sheet"
        if found and card in found.elsewhere and not found.elsewhere[card].memory_mib and "," not in card:
            advice = "nobody has looked at the hardware of that host yet: `paddock plan` does"
        yield f"hosts.{host}: {card}: {UNKNOWN}: {advice}"
    for each in (each for name in served for each in fleet.models[name].components(name)):
        if each.name not in shapes and not each.is_text:
            why = (unread or {}).get(each.name, "nobody has read its header yet: `paddock models fit` does")
            yield f"hosts.{host}: {each.where}: {UNKNOWN}: {why.removeprefix(f'{each.where}: ')}"


def _absent(demand: Demand, machine: ServingMemory, hardware: Hardware) -> Iterator[str]:
    """The devices that options of a server's models name, and that it does not have. How Vulkan counts its own is not known here."""
    names = machine.device_names(demand.cards)
    if machine.backend == "cuda" and shares_memory(hardware):
        names = (*names, "CUDA0")
    for load in demand.loads:
        if machine.backend == "cpu" and str(load.preset.get("moe-cache-mib", 0)) != "0":
            yield f"{load.where}: moe-cache-mib: a cache on the cards, and {demand.server} computes on the processor: leave it out"
        for option, name in asked_devices(load.preset):
            kind = name.rstrip("0123456789").lower()
            if name.lower() not in map(str.lower, names) and not (machine.backend == kind == "vulkan"):
                has = f"has {', '.join(names)}" if names else "has none here: it computes on the processor"
                yield f"{load.where}: {option}: there is no device {name}: {demand.server} {has}"


def _real(host: str, fleet: Fleet) -> tuple[str, ...]:
    """The models that a host serves, but for the tiny one: that is in nobody's way."""
    return tuple(name for name, entry in fleet.served_models(host).items() if entry.source != "tiny")


def _startable(asked: Iterable[Demand]) -> Iterator[Demand]:
    """Without the models that llama-server would not start: nobody can say what they take."""
    for demand in asked:
        yield replace(demand, loads=tuple(load for load in demand.loads if not any(faults(load))))


def _backend(host: str, knowledge: Knowledge) -> str:
    release = knowledge.releases.get(host)
    return release.backend if isinstance(release, Release) else "cpu"


def _cards(host: str, fleet: Fleet, knowledge: Knowledge) -> tuple[Installed, ...]:
    hardware, backend = knowledge.hardware.get(host), _backend(host, knowledge)
    if not hardware or backend == "cpu" or (backend == "vulkan" and all(each.kind != "discrete" for each in hardware.vulkan)):
        return ()
    if backend == "cuda" and shares_memory(hardware):
        return ()
    count_from = max((each.count_from for each in fleet.servers(host)), default=0)
    return installed(hardware, backend, count_from)


def _name(card: Installed) -> str:
    return f"card {card.number} ({card.name or card.address})"


def _where(server: Server, model: str) -> str:
    """Where the inventory says what this server is to serve this model with, and nothing goes before it."""
    if server.kind == "instance":
        return f"hosts.{server.host}.roles.llama_server.instances.{server.group}.preset"
    return f"models.{model}.preset"

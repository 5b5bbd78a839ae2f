"""What the servers of a host ask of it, out of the inventory: the input of `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inventory.context import Context
from inventory.model_shape import ModelShape
from inventory.schema import Fleet
from inventory.servers import Server
from roles.llama_server.cards import Installed, installed
from roles.llama_server.fit import Demand, Load, Machine, Place, fit, for_servers, nearest, refusal
from roles.llama_server.plan import defaults
from roles.llama_server.serving import context_of, settled
from roles.llama_server.settings import LlamaServerSettings
from roles.resources import Release


def machine(host: str, fleet: Fleet, context: Context) -> Machine | None:
    """What the host has for its servers; None where nobody has looked at it yet.

    Of cards that no driver tells the memory of, the room is not known. A GPU in the processor has none of its own: then it is the host's.
    """
    hardware = context.hardware.get(host)
    if not hardware:
        return None
    backend = _backend(host, context)
    rooms = {each.address: each.memory_mib for each in hardware.nvidia_cards}
    cards = {_name(each): rooms.get(each.address, 0) for each in _cards(host, fleet, context)}
    return Machine(for_servers(hardware.memory_mib), cards, backend)


def demands(host: str, fleet: Fleet, context: Context, shapes: Mapping[str, ModelShape]) -> Iterator[Demand]:
    """One for each of the host's servers, with those of its models whose shape is known."""
    settings = fleet.role(host, "llama_server", LlamaServerSettings)
    hardware, servers = context.hardware.get(host), fleet.servers(host)
    there = _cards(host, fleet, context)
    for server in servers:
        assert settings
        router = server.kind == "router"
        loads = tuple(
            Load(name, shapes[name], fleet.preset(server, name), _where(server, name)) for name in server.models if name in shapes
        )
        prompts = defaults(settings, hardware.memory_mib if hardware else 0, 1 if router else len(servers)).get("cache-ram", 0)
        cards = tuple(_name(each) for each in there if not server.gpus or any(map(each.is_called, server.gpus)))
        yield Demand(
            server.name,
            loads,
            cards,
            at_once=settings.models_max if router else 0,
            where=f"hosts.{host}.roles.llama_server" if router else "",
            prompt_cache_mib=int(prompts),
            memory_max_mib=_mib(server.memory_max),
        )


def judged(host: str, fleet: Fleet, context: Context, shapes: Mapping[str, ModelShape]) -> tuple[Place, ...]:
    """Every place of the host with what it carries; nothing where nobody has looked at the host yet."""
    found = machine(host, fleet, context)
    return fit(found, tuple(demands(host, fleet, context, shapes))) if found else ()


def refusals(host: str, fleet: Fleet, context: Context, shapes: Mapping[str, ModelShape]) -> Iterator[str]:
    """Why what the inventory asks of a host cannot be, a line each, with the nearest that can."""
    found, asked = machine(host, fleet, context), tuple(demands(host, fleet, context, shapes))
    yield from dict.fromkeys(line for demand in asked for load in demand.loads for line in beyond_training(load))
    short = [place for place in fit(found, asked) if not place.fits] if found else []
    if found and short:
        changes = nearest(found, asked)
        yield from (f"hosts.{host}: {refusal(place, changes)}" for place in short)


def beyond_training(load: Load) -> Iterator[str]:
    """A context that is longer than the model ever saw, unless the options stretch its positions."""
    trained, slot = load.shape.context_length, context_of(settled(load.shape, load.options))
    stretched = any(option.startswith(("rope-", "yarn-", "override-kv")) for option in load.preset)
    # llama.cpp pads a context to 256 cells.
    if trained and slot >= trained + 256 and not stretched:
        yield f"{load.where}: ctx-size gives {load.model} {slot} tokens, and it was trained for {trained}: give it at most those"


def _backend(host: str, context: Context) -> str:
    release = context.releases.get(host)
    return release.backend if isinstance(release, Release) else "cpu"


def _cards(host: str, fleet: Fleet, context: Context) -> tuple[Installed, ...]:
    hardware, backend = context.hardware.get(host), _backend(host, context)
    if not hardware or backend == "cpu" or (backend == "vulkan" and all(each.kind != "discrete" for each in hardware.vulkan)):
        return ()
    count_from = max((each.count_from for each in fleet.servers(host)), default=0)
    return installed(hardware, backend, count_from)


def _name(card: Installed) -> str:
    return f"card {card.number} ({card.name or card.address})"


def _mib(size: str | None) -> int:
    """As systemd writes it: `24G`; 0 where there is no limit."""
    return int(size[:-1]) * 1024 ** "KMGT".index(size[-1]) // 1024 if size else 0


def _where(server: Server, model: str) -> str:
    """Where the inventory says what this server is to serve this model with, and nothing goes before it."""
    if server.kind == "instance":
        return f"hosts.{server.host}.roles.llama_server.instances.{server.group}.preset"
    return f"models.{model}.preset"

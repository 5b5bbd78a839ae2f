"""A model's context on its servers: what the model was trained for, what is asked for, and what came back. In tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from control.models.shapes import known
from control.servers import served
from control.ssh.reach import Reach
from inventory.errors import PaddockError, UsageError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from inventory.model_shape import ModelShape
from inventory.options import OLDER, Options
from roles.llama_server.demands import demands
from roles.llama_server.fit import Load
from roles.llama_server.loading import faults, remarks_on
from roles.llama_server.memory_options import memory_options, padded, settled, slot_context
from roles.llama_server.overrides import overridden
from roles.preset import Preset
from roles.server import Server

CTX = "ctx-size"


def asks_for_context(changes: Mapping[str, str | None]) -> bool:
    """Whether options give a size; 0 is what the model was made for, or as much of that as there is room for."""
    asked = changes.get(CTX) or changes.get("c") or ""
    return asked.isascii() and asked.isdecimal() and int(asked) > 0


def shape_of(fleet: Fleet, inventory: Path, reach: Reach, servers: tuple[Server, ...], model: str, *, is_needed: bool) -> ModelShape:
    """What is known of the model; where nobody has read its header, and it `is_needed`, at least the context that it was trained for."""
    if shape := known(fleet, inventory).get(model):
        return shape
    return ModelShape("", 0, context_length=(is_needed and served.trained(reach, servers, model)) or 0)


def told_of(fleet: Fleet, servers: tuple[Server, ...], model: str, shape: ModelShape, options: Mapping[str, Options]) -> tuple[str, ...]:
    """What these servers make of the model's options, where it is less than they ask for. `options` are those of each host's version.

    Raises UsageError where one of them would not start the model.
    """
    loads = tuple(_loads(fleet, servers, model, shape, options))
    if line := next((line for load in loads for line in faults(load)), None):
        raise UsageError(line)
    return tuple(dict.fromkeys(line for load in loads for line in remarks_on(load)))


def _loads(fleet: Fleet, servers: tuple[Server, ...], model: str, shape: ModelShape, options: Mapping[str, Options]) -> Iterator[Load]:
    meant = {(each.host, each.name) for each in servers}
    for host in dict.fromkeys(each.host for each in servers):
        for demand in demands(host, fleet, Knowledge(options=options), {model: shape}):
            if (host, demand.server) in meant:
                yield from demand.loads


def refuse_shorter(found: served.ServedModel, shape: ModelShape, preset: Preset, options: Options | None = None) -> None:
    """Raises PaddockError where a slot has less context than the options should have given it."""
    shape, sizing = overridden(shape, preset), options.sizing if options else OLDER
    asked = slot_context(shape, settled(shape, memory_options(preset, sizing)))
    if found.context and padded(found.context) < asked:
        more = ", which is all that llama-server gives it" if found.context == found.trained else ""
        server = f"{found.server.host}/{found.server.name}"
        raise PaddockError(f"{server}: {found.model} came back with a context of {found.context} tokens, not {asked}{more}")

"""The memory that models need on their hosts and cards, as far as that is known without a connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from control.deployment.knowledge import knowledge_for, knowledge_of_memory
from control.llama_cpp.options import options_by_host
from control.models.shapes import known, learned
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from inventory.model_components import Component
from inventory.model_shape import ModelShape
from inventory.model_sources import Local, source_kind_of
from roles.host_plan import refusals_of, remarks_of

if TYPE_CHECKING:
    from roles.llama_server.fit import MemoryPool as MemoryPool
    from roles.llama_server.fit import Row as Row
    from roles.llama_server.memory import Memory as Memory


@dataclass(frozen=True)
class HostFit:
    """`pools`: its memory and each of its cards, empty where nobody has looked at its hardware; `refused`: what cannot be, and why;
    `unchecked`: whose memory is not known; `remarks`: what else is to be known."""

    pools: tuple[MemoryPool, ...]
    refused: tuple[str, ...]
    unchecked: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """By host, and by model why its header cannot be read."""

    hosts: Mapping[str, HostFit]
    unread: Mapping[str, str]


def fit_of(fleet: Fleet, state: FleetState, inventory: Path, hosts: Iterable[Host]) -> Fit:
    """Of those of the hosts that have servers. Reads the headers of models that nobody has read yet."""
    hosts = tuple(hosts)
    knowledge = knowledge_for(fleet, state, now=datetime.now(UTC))
    shapes, unread = _shapes(fleet, inventory, hosts, knowledge)
    knowledge = replace(knowledge, shapes=shapes)
    return Fit({host.name: _fit_of(host.name, fleet, knowledge, unread) for host in hosts if fleet.servers(host.name)}, unread)


def _fit_of(host: str, fleet: Fleet, knowledge: Knowledge, unread: Mapping[str, str]) -> HostFit:
    from roles.llama_server.demands import judged, refusals, remarks, unchecked

    shapes = knowledge.shapes
    real = {each.name: shapes[each.name] for each in _components(fleet, _real(fleet, host)) if each.name in shapes}
    return HostFit(
        judged(host, fleet, knowledge, shapes),
        tuple(refusals(host, fleet, knowledge, real)),
        tuple(unchecked(host, fleet, knowledge, real, unread)),
        tuple(remarks(host, fleet, knowledge, real)),
    )


def known_fit(fleet: Fleet, state: FleetState) -> Mapping[str, HostFit]:
    """Of every host that serves models other than the tiny one, as far as that is known: nothing is read but what is kept."""
    serving = [host for host in fleet.hosts if _real(fleet, host)]
    if not serving:
        return {}
    knowledge = knowledge_of_memory(fleet, state)
    return {host: _fit_of(host, fleet, knowledge, {}) for host in serving}


def refused_and_remarked(host: Host, fleet: Fleet, knowledge: Knowledge) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why the host cannot be what its roles ask of it, and what else is to be known, as far as that is known without a connection."""
    try:
        refused = (line.removeprefix(f"hosts.{host.name}: ") for line in refusals_of(host, fleet, knowledge))
        return tuple(refused), tuple(remarks_of(host, fleet, knowledge))
    except PaddockError as error:
        return (str(error),), ()


class LoadableTypes(NamedTuple):
    """A line for each type of tensor that a host's llama.cpp does not load, and for each model of which nobody could tell."""

    refused: tuple[str, ...]
    unchecked: tuple[str, ...]


def loadable_types(
    fleet: Fleet, state: FleetState, hosts: Iterable[Host], wanted: Collection[str], secrets: Mapping[str, str], *, ask: bool
) -> LoadableTypes:
    """Whether the llama.cpp of these hosts loads the tensors of the wanted models. Reads the headers of models that nobody has read yet: of
    files on this machine, and with `ask` over the network too."""
    from roles.llama_server.loading import unloadable

    options, shapes, unread = options_by_host(fleet, state.inventory.parent), known(fleet, state.inventory), dict[str, str]()
    loaded = {host.name: _components(fleet, [name for name in _real(fleet, host.name) if name in wanted]) for host in hosts}
    for each in dict.fromkeys(each for served in loaded.values() for each in served):
        if each.name in shapes and shapes[each.name].tensor_types:
            continue
        if ask or source_kind_of(each.source) is Local:
            try:
                shapes[each.name] = learned(each, state.inventory, secrets)
            except PaddockError as error:
                unread[each.where] = str(error).removeprefix(f"{each.where}: ")
        else:
            unread[each.where] = "nobody has noted them yet: `paddock models pull --lock` does, or `paddock models fit`"
    unchecked = [f"{where}: types of tensors unknown: not checked: {why}" for where, why in unread.items()]
    refused = []
    for host, served in loaded.items():
        for each in (each for each in served if each.where not in unread):
            if host in options and options[host].tensor_types:
                refused += [f"hosts.{host}: {line}" for line in unloadable(each.where, shapes[each.name], options[host])]
            else:
                words = "nobody has seen the table of its llama.cpp's source: `paddock plan` reads it"
                unchecked.append(f"hosts.{host}: {each.where}: types of tensors not checked: {words}")
    return LoadableTypes(tuple(refused), tuple(unchecked))


def _real(fleet: Fleet, host: str) -> tuple[str, ...]:
    """The models that a host serves, but for the tiny one."""
    return tuple(name for name, entry in fleet.served_models(host).items() if entry.source != "tiny")


def _components(fleet: Fleet, models: Iterable[str]) -> list[Component]:
    """The GGUFs that llama-server loads for these models."""
    return [each for name in models for each in fleet.models[name].components(name) if not each.is_text]


def pools_of(host: str, fleet: Fleet, knowledge: Knowledge) -> tuple[MemoryPool, ...]:
    """As far as the host's models have been looked at; nothing where none has, or where they are all tiny."""
    if not _real(fleet, host):
        return ()
    from roles.llama_server.demands import judged

    return judged(host, fleet, knowledge, knowledge.shapes)


def _shapes(fleet: Fleet, inventory: Path, hosts: tuple[Host, ...], knowledge: Knowledge) -> tuple[dict[str, ModelShape], dict[str, str]]:
    """The models' shapes, read where nobody had; and of those that cannot be read, why."""
    found, unread = dict(knowledge.shapes), dict[str, str]()
    served = dict.fromkeys(name for host in hosts for name in fleet.served_models(host.name))
    for each in (each for each in _components(fleet, served) if each.name not in found):
        try:
            found[each.name] = learned(each, inventory, knowledge.secrets)
        except PaddockError as error:
            unread[each.name] = str(error)
    return found, unread

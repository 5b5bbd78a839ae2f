"""What the presets of a fleet say, beside what the versions of llama-server that they are for take, with the place of each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inventory.compose import compose
from inventory.marks import Entry, Node, Scalar, Sequence, mapping_at
from inventory.merge import Draft, drafts, filled
from inventory.options import Fault, Options, Value, faults, going, named_twice
from inventory.problems import Problem, quoted
from inventory.schema import Fleet
from inventory.servers import Server
from roles.llama_cpp.settings import LlamaCppSettings, Source

Known = Callable[[Source], Options | None]
"""The options of a source, or None where nobody has seen it yet."""

Preset = Mapping[str, Entry]
"""As it is written, each option with its place."""

ROLE = ("roles", "llama_server")


class Judged(NamedTuple):
    """`problems` are refused, `going` is what works for now, a line each; `unknown` are the sources that nobody has seen yet."""

    problems: tuple[str, ...]
    going: tuple[str, ...]
    unknown: tuple[Source, ...]


def judged(path: Path, fleet: Fleet, known: Known) -> Judged:
    """All presets of the fleet that was loaded from `path`."""
    document = filled(compose(path.read_text(encoding="utf-8-sig"))[0])
    found = drafts(document, [])
    problems = list(_names(document, fleet))
    leaving: list[Problem] = []
    unknown = {}
    for name in fleet.hosts:
        if not (source := source_of(fleet, name)):
            continue
        if options := known(source):
            routed = any(server.kind == "router" for server in fleet.servers(name))
            for server in fleet.servers(name):
                problems += _problems(server, options, found[name], document, routed)
                for entries in _written(server, found[name], document):
                    leaving += _found(entries, partial(going, options=options))
        else:
            unknown[source.identity] = source
    return Judged(_told(problems, path), _told(leaving, path), tuple(unknown.values()))


def source_of(fleet: Fleet, host: str) -> Source | None:
    """The source of the llama-server that a host runs, if it runs one."""
    settings = fleet.role(host, "llama_cpp", LlamaCppSettings)
    return settings.source if settings and fleet.servers(host) else None


def _problems(server: Server, options: Options, draft: Draft, document: Node, routed: bool) -> Iterator[Problem]:
    """`routed` says whether the host has a router too: what is said for all its servers may then be for that alone."""
    if server.kind == "router" and not options.find("models-preset"):
        words = f"llama.cpp {options.label} is from before there was a router: write `instances`, or take a newer one"
        yield Problem(mapping_at(draft.node, *ROLE)["models"].key, words)
        return
    own, *shared = _written(server, draft, document)
    yield from _found(own, partial(faults, options=options, router=server.kind == "router"))
    for entries in shared:
        yield from _found(entries, partial(faults, options=options, router=routed))


def _written(server: Server, draft: Draft, document: Node) -> tuple[Preset, ...]:
    """The presets that a server's options come from, as they are written: its own, which is the role's where it is the router, first."""
    of_role, of_models = mapping_at(draft.node, *ROLE, "preset"), [mapping_at(document, "models", each, "preset") for each in server.models]
    if server.kind == "router":
        return (of_role, *of_models)
    return (mapping_at(draft.node, *ROLE, "instances", server.group, "preset"), of_role, *of_models)


def _found(entries: Preset, find: Callable[[Mapping[str, Value]], Iterable[Fault]]) -> Iterator[Problem]:
    """Each fault of a preset, where it stands."""
    for fault in find(dict(_values(entries))):
        entry = entries[fault.key]
        yield Problem(entry.node.place if fault.of_value else entry.key, fault.words)


def _values(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Value]]:
    for key, entry in entries.items():
        if isinstance(entry.node, Scalar) and entry.node.value is not None:
            yield key, entry.node.value


def _names(document: Node, fleet: Fleet) -> Iterator[Problem]:
    """Two models of a router that answer to one name: it does not start."""
    for server in (server for host in fleet.hosts for server in fleet.servers(host) if server.kind == "router"):
        for model, number, other in named_twice({model: fleet.models[model].aliases for model in server.models}):
            aliases = mapping_at(document, "models", model)["aliases"].node
            assert isinstance(aliases, Sequence)
            alias = fleet.models[model].aliases[number]
            whose = "the model's own name" if other == model else f"model {quoted(other)} already, on {server.host}"
            yield Problem(aliases.items[number].place, f"{quoted(alias)} is {whose}: a name leads to one model")


def _told(problems: Iterable[Problem], path: Path) -> tuple[str, ...]:
    """A line for each place, in the order of the file: hosts with the same preset would say the same of it."""
    by_place = {problem.place: problem for problem in reversed(list(problems))}
    return tuple(problem.told(path) for problem in sorted(by_place.values()))

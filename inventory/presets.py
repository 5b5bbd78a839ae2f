"""What the presets of a fleet say, beside what the versions of llama-server that they are for take, with the place of each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inventory.fleet import Fleet
from inventory.limits import beyond_cards, contradictions, eviction_fault, startup_fault
from inventory.load import Positions
from inventory.marks import Entry, Node, Scalar, Sequence, mapping_at
from inventory.merge import Draft
from inventory.model_components import OPTIONS
from inventory.option_values import as_read
from inventory.options import Fault, Options, Value, bare, faults, going, named_twice
from inventory.problems import Problem
from roles.preset import ON, Several, uncut
from roles.sandbox import refusal, unopened
from roles.server import Server
from roles.source import Source
from roles.wording import quoted

Known = Callable[[Source], Options | None]
"""The options of a source, or None where nobody has seen it yet."""

WrittenPreset = Mapping[str, Entry]
"""As it is written, each option with its place."""


class Judged(NamedTuple):
    """`problems` are refused, `going` is what works for now, a line each; `unknown` are the sources that nobody has seen yet."""

    problems: tuple[str, ...]
    going: tuple[str, ...]
    unknown: tuple[Source, ...]


def judged(positions: Positions, fleet: Fleet, known: Known) -> Judged:
    """All presets of a fleet that was loaded from a file, of which the positions are; the fleet may have been moved to a lab since."""
    document, path = positions.document, positions.path
    problems = list(_names(document, fleet))
    anew = _Anew()
    leaving: list[Problem] = []
    unknown = {}
    for name in fleet.hosts:
        for server in fleet.servers(name):
            for entries in _written(server, positions.hosts[name], document):
                if server.kind == "router":
                    problems += _found(anew(entries, "INI"), _cut)
                granted_as = (server.scope, server.user, server.address, server.opens)
                problems += _found(anew(entries, granted_as), partial(_not_granted, server=server))
        if not (source := source_of(fleet, name)):
            continue
        if options := known(source):
            routed = any(server.kind == "router" for server in fleet.servers(name))
            for server in fleet.servers(name):
                problems += _problems(server, options, positions.hosts[name], document, routed, anew)
                for entries in _written(server, positions.hosts[name], document):
                    leaving += _found(anew(entries, options.source, "going"), partial(going, options=options))
        else:
            unknown[source.identity] = source
    return Judged(_told(problems, path), _told(leaving, path), tuple(unknown.values()))


def source_of(fleet: Fleet, host: str) -> Source | None:
    """The source of the llama-server that a host runs, if it runs one."""
    said = (each.llama_cpp_source() for each in fleet.hosts[host].carried.values()) if fleet.servers(host) else ()
    return next((source for source in said if source), None)


class _Anew:
    """Hosts share the presets of their groups and of the models: of each a look is enough."""

    def __init__(self) -> None:
        self._seen: set[tuple[object, ...]] = set()

    def __call__(self, entries: WrittenPreset, *how: object) -> WrittenPreset:
        """The preset; an empty one where it was looked at in the same way before. The positions keep it, so that its id is its own."""
        return entries if entries and self.first(id(entries), *how) else {}

    def first(self, *what: object) -> bool:
        """Whether nobody has asked for that before."""
        if what in self._seen:
            return False
        self._seen.add(what)
        return True


def _problems(server: Server, options: Options, draft: Draft, document: Node, routed: bool, anew: _Anew) -> Iterator[Problem]:
    """`routed` says whether the host has a router too: what is said for all its servers may then be for that alone."""
    if server.kind == "router" and not options.find("models-preset"):
        words = f"llama.cpp {options.label} has no router: use `instances`, or a newer llama.cpp"
        yield Problem(mapping_at(draft.node, *server.keys)["models"].key, words)
        return
    own, *shared = _written(server, draft, document)
    for entries, router in ((own, server.kind == "router"), *((each, routed) for each in shared)):
        yield from _found(anew(entries, options.source, router), partial(faults, options=options, router=router))
        yield from _found(anew(entries, options.source, server.opens), partial(_unopened, options=options, server=server))
    for entries in shared if server.kind == "router" else ():
        yield from _found(anew(entries, options.source, "of a router's model"), partial(_not_of_models, options=options))
    yield from (each for model in server.models if anew.first(options.source, model) for each in _unnamed(model, document, options))
    served = {model: _served(server, model, draft, document, options) for model in server.models}
    for entries in served.values():
        cards = 0 if server.workers else len(server.gpus)  # it has those of other hosts too
        if anew.first(options.source, cards, *(entry.node.place[:2] for entry in entries.values())):
            yield from _found(entries, partial(contradictions, options=options))
            yield from _found(entries, partial(beyond_cards, options=options, cards=cards))
    if server.kind == "router":
        loaded = [model for model, entries in served.items() if _is_loaded_on_startup(entries)]
        most, listed = server.models_max, len(server.models)
        if words := startup_fault(loaded, most, listed, options) or eviction_fault(most, listed, options):
            said = mapping_at(draft.node, *server.keys)
            yield Problem(said["models_max"].node.place if "models_max" in said else said["models"].key, words)


def _unnamed(model: str, document: Node, options: Options) -> Iterator[Problem]:
    """The files of a model that this version has no option for."""
    for key, entry in mapping_at(document, "models", model).items():
        if key in OPTIONS and not options.find(OPTIONS[key][0]):
            yield Problem(entry.key, f"llama-server {options.label} has no option for {quoted(key)} (--{OPTIONS[key][0]}): leave it out")


def _served(server: Server, model: str, draft: Draft, document: Node, options: Options) -> WrittenPreset:
    """All that a server serves a model with, as Fleet.preset has it, under one spelling of each option: the one that counts."""
    of_role, of_model = mapping_at(draft.node, *server.shared_keys, "preset"), mapping_at(document, "models", model, "preset")
    own = mapping_at(draft.node, *server.keys, "preset") if server.group else {}
    found: dict[object, tuple[str, Entry]] = {}
    for key, entry in (*of_role.items(), *of_model.items(), *own.items()):
        option = options.find(key) or key
        found.pop(option, None)
        found[option] = (key, entry)
    return dict(found.values())


def _is_loaded_on_startup(entries: WrittenPreset) -> bool:
    said = dict(_values(entries)).get("load-on-startup", False)
    return as_read(said) in ON


def _not_granted(preset: Mapping[str, Value], server: Server) -> Iterator[Fault]:
    """What the unit of a server cannot grant."""
    for key, value in preset.items():
        if words := unopened((key,), "", server):
            yield Fault(key, f"{quoted(key)} {words}")
        elif words := refusal(key, value, server):
            yield Fault(key, words, of_value=True)


def _not_of_models(preset: Mapping[str, Value], options: Options) -> Iterator[Fault]:
    """What a router takes itself, from what is said of all its models."""
    for key in preset:
        if (option := options.find(key)) and option.part == "server":
            yield Fault(key, f"{quoted(key)} is the router's, which reads no model's preset: set it in the preset of llama_server")


def _cut(preset: Mapping[str, Value]) -> Iterator[Fault]:
    """What a router's preset file cannot hold."""
    for key, value in preset.items():
        if words := uncut(value):
            yield Fault(key, words, of_value=True)


def _unopened(preset: Mapping[str, Value], options: Options, server: Server) -> Iterator[Fault]:
    """What this version of llama-server would open besides its models."""
    for key in preset:
        option = options.find(key)
        if option and (words := unopened([bare(each) for each in (*option.names, *option.negated)], option.hint, server)):
            yield Fault(key, f"{quoted(key)} {words}")


def _written(server: Server, draft: Draft, document: Node) -> tuple[WrittenPreset, ...]:
    """The presets that a server's options come from, as they are written: its own, which is the role's where it is the router, first."""
    of_role = mapping_at(draft.node, *server.shared_keys, "preset")
    of_models = [mapping_at(document, "models", each, "preset") for each in server.models]
    own = [mapping_at(draft.node, *server.keys, "preset")] if server.group else []
    return (*own, of_role, *of_models)


def _found(entries: WrittenPreset, find: Callable[[Mapping[str, Value]], Iterable[Fault]]) -> Iterator[Problem]:
    """Each fault of a preset, where it stands."""
    for fault in find(dict(_values(entries))):
        entry = entries[fault.key]
        yield Problem(entry.node.place if fault.of_value else entry.key, fault.words)


def _values(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Value]]:
    for key, entry in entries.items():
        if isinstance(entry.node, Scalar) and entry.node.value is not None:
            yield key, entry.node.value
        elif isinstance(entry.node, Sequence):
            yield key, Several(each.value for each in entry.node.items if isinstance(each, Scalar) and each.value is not None)


def _names(document: Node, fleet: Fleet) -> Iterator[Problem]:
    """Two models of a router that answer to one name: it does not start."""
    for server in (server for host in fleet.hosts for server in fleet.servers(host) if server.kind == "router"):
        for model, number, other in named_twice({model: fleet.models[model].aliases for model in server.models}):
            aliases = mapping_at(document, "models", model)["aliases"].node
            assert isinstance(aliases, Sequence)
            alias = fleet.models[model].aliases[number]
            whose = "the model's own name" if alias == model else "among its aliases already"
            if other != model:
                whose = f"model {quoted(other)} already, on {server.host}"
            yield Problem(aliases.items[number].place, f"{quoted(alias)} is {whose}: a name must be unique")


def _told(problems: Iterable[Problem], path: Path) -> tuple[str, ...]:
    """A line for each place, in the order of the file: hosts with the same preset would say the same of it."""
    by_place = {problem.place: problem for problem in reversed(list(problems))}
    return tuple(problem.told(path) for problem in sorted(by_place.values()))

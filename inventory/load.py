"""A YAML file, made a fleet; or everything that is wrong with it, each with line and column."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from inventory.compose import NO_TEXT, Unreadable, compose
from inventory.errors import InventoryError
from inventory.fleet import Fleet, Host
from inventory.marks import Entry, Mapping, Node, Scalar, Sequence, child, followed, mapping_at, plain
from inventory.merge import Draft, drafts, filled
from inventory.model_components import Component
from inventory.model_lock import ModelLock, locked, read_lock, unlocked
from inventory.model_sources import KINDS
from inventory.problems import Place, Problem
from inventory.references import Carrier, problems_between, problems_of_users
from inventory.schema import Document, HostEntry
from inventory.source_lock import locked as with_sources
from inventory.source_lock import read_lock as read_source_lock
from inventory.source_lock import unlocked as unlocked_sources
from inventory.words import Told, problems_of
from roles import ROLES, settings_of
from roles.role import Domain, Name, RoleSettings, Settings

BYTES = 10_000_000
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
UNSEEN_LINE_END = re.compile("[\x85\u2028\u2029]")
"""What ends a line for YAML, and is a character within a line to most editors: what looks like a comment could end in a key."""
NAME: TypeAdapter[str] = TypeAdapter(Name)
DOMAIN: TypeAdapter[str] = TypeAdapter(Domain)
M = TypeVar("M", bound=Settings)


@dataclass(frozen=True)
class Positions:
    """Where everything stands in the inventory `path`: in the document as it was written, and in each host with all that it inherits."""

    path: Path
    document: Mapping
    hosts: dict[str, Draft]


class Loaded(NamedTuple):
    """What a file describes, and where it says it. `lock` is what lay beside it of its models."""

    fleet: Fleet
    positions: Positions
    lock: ModelLock


def load(path: Path) -> Fleet:
    """The fleet that a file describes, with what the locks beside it say of its models and of its sources of llama.cpp.

    Raises InventoryError with all that is wrong, in the order of the file.
    """
    return loaded(path).fleet


def loaded(path: Path) -> Loaded:
    """The fleet, as `load` gives it, with the place of all that stands in the file. Raises InventoryError."""
    text = _text(path)
    try:
        root, problems = compose(text)
        document = _document(root)
        hosts = drafts(document, problems)
        fleet, more = _fleet(document, hosts, problems, path.absolute().parent)
    except Unreadable as unreadable:
        fleet, more = None, unreadable.problems
    if fleet is None or more:
        found = sorted(set(more))
        raise InventoryError([problem.told(path) for problem in found], found)
    lock = read_lock(path)
    return Loaded(with_sources(locked(fleet, lock), read_source_lock(path)), Positions(path, document, hosts), lock)


def require_lock(this: Loaded) -> None:
    """Raises InventoryError with every model of a loaded file whose files nothing says the digests of, and every such source."""
    models = mapping_at(this.positions.document, "models")
    problems = [
        *(Problem(_place(models[name], each).key, words) for name, each, words in unlocked(this.fleet, this.lock)),
        *(
            Problem(Carrier(this.positions.hosts[host], {}).key("roles", role, "source", "sdist"), words)
            for host, role, words in unlocked_sources(this.fleet)
        ),
    ]
    if problems:
        raise InventoryError([problem.told(this.positions.path) for problem in sorted(set(problems))])


def _place(model: Entry, component: Component) -> Entry:
    """The source of a model's component, or the last key on the way there that is written."""
    keys = component.where.removeprefix(f"models.{model.key.path[-1]}").split(".")
    return followed(model, *filter(None, keys), "source")


def _text(path: Path) -> str:
    """The file as text. Raises InventoryError where there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES + 1)
    except FileNotFoundError:
        raise InventoryError([f"{path}: there is no such file: name another with -i"]) from None
    except IsADirectoryError:
        raise InventoryError([f"{path}: this is a directory: name the YAML file in it"]) from None
    except (OSError, ValueError) as error:
        raise InventoryError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    if len(data) > BYTES:
        raise InventoryError([Problem(Place(1, 1), f"is larger than {BYTES // 1_000_000} MB: this is not an inventory").told(path)])
    try:
        text = (data := data.removeprefix(BOM_UTF8)).decode()
    except UnicodeDecodeError as error:
        problem = Problem(_end(data[: error.start].decode()), f"is not UTF-8 text (byte 0x{data[error.start]:02x}): save the file as UTF-8")
        raise InventoryError([problem.told(path)]) from None
    if found := UNPRINTABLE.search(text):
        problem = Problem(_end(text[: found.start()]), f"is not a text file (character U+{ord(found[0]):04X}): this is not an inventory")
        raise InventoryError([problem.told(path)])
    if found := UNSEEN_LINE_END.search(text):
        words = f"the character U+{ord(found[0]):04X} ends a line in YAML, which hardly an editor shows: write a line break or a space"
        raise InventoryError([Problem(_end(text[: found.start()]), words).told(path)])
    return text


def _end(text: str) -> Place:
    lines = re.split("\r\n|[\r\n]", text)
    return Place(len(lines), len(lines[-1]) + 1)


def _document(root: Node) -> Mapping:
    if isinstance(root, Mapping):
        document = filled(root)
        assert isinstance(document, Mapping)
        return document
    what = "a list" if not isinstance(root, Scalar) else "empty" if root.value is None else "one value"
    raise Unreadable([Problem(root.place, f"an inventory is a mapping with at least the keys fleet, domain and hosts, this is {what}")])


def _fleet(root: Mapping, found: dict[str, Draft], problems: list[Problem], beside: Path) -> tuple[Fleet | None, list[Problem]]:
    """The fleet, or what is wrong: what each step finds, but for places that a step before has complained of. Keys lie `beside`."""
    entry = child(root, "hosts")
    if not found and entry and isinstance(entry.node, Mapping) and not any(each.place.path[:1] == ("hosts",) for each in problems):
        problems.append(Problem(entry.key, "a fleet needs at least one host"))

    # Each host is looked at below, with what it inherits; what hosts inherit may be unfinished.
    alone = _replaced(root, "hosts")
    _, wrong = _validated(Document, alone, unfinished=("defaults", "groups"))
    problems = _with(problems, wrong)

    hosts, carriers, wrong = {}, {}, []
    told: Told = set()
    malformed: set[int] = set()
    for draft in found.values():
        host, of_host = _validated(HostEntry, _without(draft.node, malformed), told=told)
        wrong += [*of_host, *_of_name(draft)]
        carriers[draft.name] = Carrier(draft, _roles(draft, host))
        malformed.update(
            id(mapping_at(draft.node, "roles")[role].node) for role, each in carriers[draft.name].roles.items() if each is None
        )
        if host and not wrong:
            key = {"ssh_key": str(beside / Path(host.ssh_key).expanduser())} if host.ssh_key else {}
            said = {name: getattr(host, name) for name in host.model_fields_set}  # what is not said, ~/.ssh/config may say
            hosts[draft.name] = Host(name=draft.name, groups=draft.groups, **{**said, **key})
    wrong += problems_between(carriers, mapping_at(root, "groups"), _models(root), mapping_at(root, "clients"), _domain(root))
    wrong += problems_of_users(child(root, "users"), carriers, _names_of_models(root))
    problems = _with(problems, wrong)

    document, _ = _validated(Document, _replaced(alone, "defaults", "groups"))
    if problems or document is None:
        return None, problems
    names = {name: getattr(document, name) for name in ("domain", "networks", "settle", "upgrade", "models", "clients", "users")}
    return Fleet(name=document.fleet, hosts=hosts, **names), []


def _with(problems: list[Problem], more: list[Problem]) -> list[Problem]:
    refused = {problem.place for problem in more}
    problems = [problem for problem in problems if problem.place not in refused or not problem.words.startswith(NO_TEXT)]
    told = {problem.place for problem in problems}
    return problems + [problem for problem in more if problem.place not in told]


def _validated(model: type[M], node: Node, unfinished: tuple[str, ...] = (), told: Told | None = None) -> tuple[M | None, list[Problem]]:
    """Strictly, for YAML has bent values enough: `port: yes` is no number."""
    try:
        return model.model_validate(plain(node), strict=True), []
    except ValidationError as error:
        return None, list(problems_of(error, node, model, unfinished, told))


def _replaced(root: Mapping, *keys: str) -> Mapping:
    """The document with an empty mapping where some keys have one."""
    entries = dict(root.entries)
    for key in keys:
        if (entry := entries.get(key)) and isinstance(entry.node, Mapping):
            entries[key] = Entry(entry.key, Mapping(entry.node.place, {}))
    return Mapping(root.place, entries)


def _without(host: Node, malformed: set[int]) -> Node:
    """The host without the roles that are malformed as another host has them too, by the ids of what its groups say of them."""
    entry = child(host, "roles")
    if not malformed or not isinstance(host, Mapping) or entry is None or not isinstance(entry.node, Mapping):
        return host
    roles = {role: each for role, each in entry.node.entries.items() if id(each.node) not in malformed}
    return Mapping(host.place, {**host.entries, "roles": Entry(entry.key, Mapping(entry.node.place, roles))})


def _of_name(draft: Draft) -> Iterator[Problem]:
    try:
        NAME.validate_python(draft.name)
    except ValidationError as error:
        yield Problem(draft.key, str(error.errors()[0]["ctx"]["error"]))


def _roles(draft: Draft, entry: HostEntry | None) -> dict[str, RoleSettings | None]:
    """The roles that a host carries, each with its settings where those are well-formed."""
    written = mapping_at(draft.node, "roles")
    if entry:
        return {role: getattr(entry.roles, role) for role in ROLES if role in written}
    return {role: _settings(role, written[role].node) for role in ROLES if role in written}


def _settings(role: str, node: Node) -> RoleSettings | None:
    try:
        return settings_of(role).model_validate(plain(node), strict=True)
    except ValidationError:
        return None


def _models(root: Mapping) -> dict[str, bool]:
    """The models, each with whether its file lies on its host already."""
    there = [kind.key() for kind in KINDS if kind.there_already]
    sources = {name: mapping_at(entry.node, "source") for name, entry in mapping_at(root, "models").items()}
    return {name: any(key in source for key in there) for name, source in sources.items()}


def _names_of_models(root: Mapping) -> set[str]:
    """The names of all models, and their aliases."""
    models = mapping_at(root, "models")
    aliases = (entry.node for model in models.values() if (entry := child(model.node, "aliases")))
    items = (item for each in aliases if isinstance(each, Sequence) for item in each.items)
    return {*models, *(item.value for item in items if isinstance(item, Scalar) and isinstance(item.value, str))}


def _domain(root: Mapping) -> str:
    """The domain, or nothing where it is not well-formed."""
    entry = child(root, "domain")
    try:
        return DOMAIN.validate_python(entry.node.value if entry and isinstance(entry.node, Scalar) else None)
    except ValidationError:
        return ""

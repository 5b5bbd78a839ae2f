"""What pydantic finds wrong, told in the words of an inventory, at the place where it was written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inventory.marks import Entry, Mapping, Node, Scalar, Sequence
from inventory.problems import Place, Problem
from inventory.scalars import as_read
from roles.role import meanings
from roles.wording import did_you_mean, one_of, quoted

SHAPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true/false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
LIMITS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} at most",
}


Told = set[tuple[Place, Place, tuple[str, ...]]]
"""What was said before: key and value, each by its place, and what pydantic says of them."""


def problems_of(
    error: ValidationError, root: Node, model: type[BaseModel], unfinished: Collection[str] = (), told: Told | None = None
) -> Iterator[Problem]:
    """A problem for each thing that is wrong with `root`, which was to be a `model`.

    Of a union, pydantic complains for each member: where a member fits the value's kind, what the others say is left out. Below the
    keys in `unfinished`, a mapping may lack something: what it is merged into may have it. What `told` has is left out, and what is said
    is added to it: hosts share what their groups say, and words are found for it once.
    """
    by_path: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for each in error.errors(include_url=False, include_input=False):
        path = _path(each, root)
        if not (path[:1] and path[0] in unfinished and _is_of_whole(each, _entry(root, path).node)):
            by_path.setdefault(path, []).append(each)
    whole = {path[:length] for path in by_path for length in range(len(path))}
    told = set() if told is None else told
    for path, errors in by_path.items():
        entry = _entry(root, path)
        said = (entry.key, entry.node.place, tuple(f"{each['type']} {each['loc'][-1]}" for each in errors if each["loc"]))
        if said in told:
            continue
        told.add(said)
        kinds = list(dict.fromkeys(_kind(each, entry.node) for each in errors))
        wanted = [kind for kind in kinds if kind]
        for each in errors:
            if not _kind(each, entry.node):
                yield _problem(each, entry, wanted, _fields(model, path[:-1] if each["type"] == "extra_forbidden" else path))
        if len(wanted) == len(kinds) and path not in whole:
            yield Problem(entry.node.place, f"should be {one_of(wanted)}, {_is(entry.node, wanted)}")


def _is_of_whole(error: ErrorDetails, node: Node) -> bool:
    """Whether it is about a mapping's keys together, and not about one of them."""
    return error["type"] == "missing" or (error["type"] == "value_error" and isinstance(node, Mapping) and "[key]" not in error["loc"])


def _path(error: ErrorDetails, root: Node) -> tuple[str, ...]:
    """The keys that lead to the error, without the names that pydantic gives the members of a union."""
    node, path = root, []
    for part in map(str, error["loc"]):
        if (entry := _child(node, part)) is not None:
            node = entry.node
            path.append(part)
    return tuple(path)


def _entry(root: Node, path: tuple[str, ...]) -> Entry:
    entry = Entry(root.place, root)
    for part in path:
        entry = _child(entry.node, part) or entry
    return entry


def _child(node: Node, part: str) -> Entry | None:
    if isinstance(node, Mapping):
        return node.entries.get(part)
    if isinstance(node, Sequence) and part.isdigit() and int(part) < len(node.items):
        return Entry(node.place, node.items[int(part)])
    return None


def _kind(error: ErrorDetails, node: Node) -> str:
    """The kind of value that was wanted, where that is what is wrong."""
    if error["type"] == "literal_error" and not isinstance(node, Scalar):
        choices = _choices(error)
        return one_of([quoted(word) for word in choices]) if choices else error["ctx"]["expected"].lower()
    return SHAPES.get(error["type"], "")


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _is(node: Node, wanted: list[str]) -> str:
    if isinstance(node, Mapping):
        return "this is a mapping"
    if isinstance(node, Sequence):
        return "this is a list"
    if node.value is None:
        return "this is empty"
    if isinstance(node.value, str):
        return f"this is {quoted(node.text)}" + (": leave out the quotes" if re.fullmatch(r"[0-9.]+|true|false", node.text) else "")
    return f"and {as_read(node.text)}" if wanted == ["text"] else f"this is {node.text}"


def _problem(error: ErrorDetails, entry: Entry, wanted: list[str], fields: dict[str, str]) -> Problem:
    node, kind, context = entry.node, error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        what = "role" if entry.key.path[-2:-1] == ("roles",) else "key"
        hint = did_you_mean(key, fields) or (f" (known here: {', '.join(fields)})" if fields else "")
        return Problem(entry.key, f"unknown {what} {quoted(key)}{hint}")
    if kind == "missing":
        key = str(error["loc"][-1])
        meaning = fields.get(key, "").split("\n")[0].rstrip(".")
        return Problem(entry.key, f"missing key {quoted(key)}" + (f" ({meaning[0].lower()}{meaning[1:]})" if meaning else ""))
    if kind == "literal_error" and isinstance(node, Scalar):
        choices = _choices(error)
        if node.text in choices and not isinstance(node.value, str):
            return Problem(node.place, f"should be text, and {as_read(node.text)}")
        known = f"one of {', '.join(choices)}" if not wanted else one_of([*choices, *wanted])
        return Problem(node.place, f"{quoted(node.text)} is not {known}{did_you_mean(node.text, choices)}")
    if kind in LIMITS and isinstance(node, Scalar):
        return Problem(node.place, f"should be {LIMITS[kind].format(**context)}, this is {node.text}")
    words = str(context["error"]) if kind == "value_error" else error["msg"][:1].lower() + error["msg"][1:]
    return Problem(entry.key if "[key]" in error["loc"][-1:] or isinstance(node, Mapping) else node.place, words)


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> dict[str, str]:
    """The fields that the schema knows at a path, each with its meaning."""
    types: list[Any] = [model]
    for part in path:
        types = [member for each in types for member in _members(_inside(each, part))]
    return {name: meanings(each).get(name, "") for each in types if _is_model(each) for name in each.model_fields}


def _inside(annotation: Any, part: str) -> Any:
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return field.annotation if field else None
    arguments = get_args(annotation)
    return arguments[get_origin(annotation) is dict] if arguments else None


def _members(annotation: Any) -> Iterator[Any]:
    """What a union is made of; anything else alone, without its annotations."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for each in get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]:
            yield from _members(each)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

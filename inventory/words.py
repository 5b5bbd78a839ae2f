"""What pydantic finds wrong, told in the words of an inventory, at the place where it was written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inventory.marks import Entry, Mapping, Node, Scalar, Sequence, plain, replaced
from inventory.problems import Place, Problem
from inventory.scalars import as_read, meant
from roles.role import meanings
from roles.wording import did_you_mean, one_of, quoted, shortened

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
    "too_short": "{min_length} or more",
    "too_long": "{max_length} at most",
}


ADVISED = 20
"""Of so many errors advice is tried, which takes as long as to find them all."""

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
    for number, (path, errors) in enumerate(by_path.items()):
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
            yield _of_kind(_Attempt(root, model, path, entry.node, number < ADVISED), wanted)


@dataclass(frozen=True)
class _Attempt:
    """A value that is none of the kinds wanted, and what comes of others in its place: advice is tried before it is given."""

    root: Node
    model: type[BaseModel]
    path: tuple[str, ...]
    node: Node
    tries: bool = True

    def errors_with(self, other: Node) -> list[ErrorDetails]:
        """What pydantic says of this place, and below it, once another value stands there."""
        root = replaced(self.root, self.path, other)
        try:
            self.model.model_validate(plain(root), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return [each for each in found if _path(each, root)[: len(self.path)] == self.path]
        return []

    def advice(self, other: str | int | float | bool | None, words: str) -> str:
        """The words where the other value would do, else what would be said of it next, where that says more."""
        assert isinstance(self.node, Scalar)
        if not self.tries:
            return ""
        attempt = replace(self.node, value=other)
        errors = self.errors_with(attempt)
        if not errors:
            return words
        says = [_problem(each, Entry(attempt.place, attempt), [], {}).words for each in errors if each["type"] in (*LIMITS, "value_error")]
        return says[0] if says else ""


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
    if error["type"] == "literal_error" and (not (choices := _choices(error)) or not isinstance(node, Scalar)):
        return one_of([quoted(word) for word in choices]) if choices else error["ctx"]["expected"].lower()
    return SHAPES.get(error["type"], "")


def _choices(error: ErrorDetails) -> list[str]:
    """The texts that a literal may be; none where it is no text."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


def _of_kind(attempt: _Attempt, wanted: list[str]) -> Problem:
    """What to say of a value of another kind than those that are wanted."""
    node, should = attempt.node, f"should be {one_of(wanted)}"
    if not isinstance(node, Scalar):
        return Problem(node.place, f"{should}, this is a {'mapping' if isinstance(node, Mapping) else 'list'}")
    if node.value is None:
        return Problem(node.place, f"{should}, this is empty")
    if isinstance(node.value, str):
        return Problem(node.place, _instead_of_text(attempt, node, wanted) or f"{should}, this is {quoted(node.text)}")
    advised = attempt.advice(node.text, f"{should}, and {as_read(node.text)}") if wanted == ["text"] else ""
    return Problem(node.place, advised or f"{should}, this is {node.text}")


def _instead_of_text(attempt: _Attempt, node: Scalar, wanted: list[str]) -> str:
    """What to say of text where something else is wanted, if there is advice; empty where there is none."""
    is_text = f"should be {one_of(wanted)}, this is {quoted(node.text)}"
    if (other := meant(node.text)) != node.value and other is not None:
        return attempt.advice(other, f"{is_text}: leave out the quotes")
    if "a mapping" not in wanted:
        return ""
    fields = _fields(attempt.model, attempt.path)
    if words := _cut(node.text, fields):
        return f"{is_text}: {words}"
    needed = [name for each in _models(attempt.model, attempt.path) for name, field in each.model_fields.items() if field.is_required()]
    if len(needed) == 1 and attempt.tries and not attempt.errors_with(Mapping(node.place, {needed[0]: Entry(node.place, node)})):
        return f"{is_text}: write `{needed[0]}: {shortened(node.text)}` below it"
    return ""


def _cut(text: str, fields: Collection[str]) -> str:
    """What is missing in a key that its value sticks to: `port:22`, `port 22`; empty where nothing is."""
    key, between, value = re.match(r"([^\s:]*)(:|\s+)?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if key not in fields or not between or not value:
        return ""
    return f"write `{key}: {shortened(value)}`, with a {'space behind the colon' if between == ':' else 'colon'}"


def _problem(error: ErrorDetails, entry: Entry, wanted: list[str], fields: dict[str, str]) -> Problem:
    node, kind, context = entry.node, error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        what = "role" if entry.key.path[-2:-1] == ("roles",) else "key"
        if words := _cut(key, fields):
            return Problem(entry.key, f"unknown {what} {quoted(key)}: {words}")
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
    if kind in ("too_short", "too_long"):
        many = f"{context['actual_length']} of them" if context["actual_length"] else "empty"
        return Problem(node.place, f"should be a list of {LIMITS[kind].format(**context)}, this is {many}")
    if kind in LIMITS and isinstance(node, Scalar):
        return Problem(node.place, f"should be {LIMITS[kind].format(**context)}, this is {node.text}")
    words = str(context["error"]) if kind == "value_error" else error["msg"][:1].lower() + error["msg"][1:]
    return Problem(entry.key if "[key]" in error["loc"][-1:] or isinstance(node, Mapping) else node.place, words)


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> dict[str, str]:
    """The fields that the schema knows at a path, each with its meaning."""
    return {name: meanings(each).get(name, "") for each in _models(model, path) for name in each.model_fields}


def _models(model: type[BaseModel], path: tuple[str, ...]) -> list[type[BaseModel]]:
    """What the schema has at a path."""
    types: list[Any] = [model]
    for part in path:
        types = [member for each in types for member in _members(_inside(each, part))]
    return [each for each in types if _is_model(each)]


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

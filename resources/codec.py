"""A host's plan as data: written as what JSON carries, and read back. Secrets are no part of it, only references to them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from resources import File, Resource, ResourceError, kind_of
from resources.disk import Sealed

Plan = Mapping[str, tuple[Resource, ...]]
"""Role → its resources."""

Content = str | bytes | Sealed


def written(plan: Plan) -> dict[str, Any]:
    """Role → its resources as data. What one resource names of the others stands there by its id; a secret's content by the file's."""
    known = {each.id: each for each in _all(plan)}
    return {role: [_written(each, known) for each in resources] for role, resources in plan.items()}


def read(data: Mapping[str, Any], secrets: Callable[[str], Content]) -> dict[str, tuple[Resource, ...]]:
    """The plan that `written` gave. `secrets` gives the content of a secret file by its id. Raises ResourceError for anything else."""
    try:
        reader = _Reader({each["id"]: each for resources in data.values() for each in resources}, secrets)
        return {role: tuple(reader.resource(each["id"]) for each in resources) for role, resources in data.items()}
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ResourceError(f"this is no plan: {type(error).__name__}: {error}") from None


def seals(plan: Plan) -> dict[str, str]:
    """File id → sha256 of the content, of each secret file: enough to compare it with what is there."""
    return {each.id: each.sha256 for each in _all(plan) if isinstance(each, File) and each.secret}


def contents(plan: Plan) -> dict[str, Content]:
    """File id → content of each secret file."""
    return {each.id: each.content for each in _all(plan) if isinstance(each, File) and each.secret}


def _all(plan: Plan) -> Iterable[Resource]:
    return (each for resources in plan.values() for each in resources)


def _written(resource: Resource, known: Mapping[str, Resource]) -> dict[str, Any]:
    data: dict[str, Any] = {"id": resource.id, "kind": resource.kind}
    for each in fields(resource):
        value = getattr(resource, each.name)
        if each.name == "content" and isinstance(resource, File) and resource.secret:
            data[each.name] = {"secret": resource.id}
        elif value != _default(each):
            data[each.name] = _value(value, known)
    return data


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _value(value: Any, known: Mapping[str, Resource]) -> Any:
    match value:
        case Resource():
            return {"resource": value.id} if known.get(value.id) == value else _written(value, known)
        case tuple():
            return [_value(each, known) for each in value]
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case Sealed():
            return {"sealed": value.sha256}
        case None | str() | int() | float():
            return value
    raise TypeError(f"a plan cannot carry {type(value).__name__}")


class _Reader:
    def __init__(self, data: Mapping[str, Mapping[str, Any]], secrets: Callable[[str], Content]) -> None:
        self.data, self.secrets = data, secrets
        self.made: dict[str, Resource] = {}

    def resource(self, name: str) -> Resource:
        if name not in self.made:
            self.made[name] = self.of(self.data[name])
        return self.made[name]

    def of(self, data: Mapping[str, Any]) -> Resource:
        if (kind := kind_of(data["kind"])) is None:
            raise LookupError(f"no kind of resource is called {data['kind']}")
        values = {name: self.value(value, data) for name, value in data.items() if name not in ("id", "kind")}
        for name, value in values.items():
            if (hint := _hints(kind.kind).get(name)) is None or not _is(value, hint):
                raise ValueError(f"{data['id']}: {name} cannot be {type(value).__name__}")
        made: Resource = kind(**values)
        if made.id != data["id"]:
            raise ValueError(f"{data['id']} turns out to be {made.id}")
        return made

    def value(self, value: Any, within: Mapping[str, Any]) -> Any:
        match value:
            case {"resource": name}:
                return self.resource(name)
            case {"secret": name}:
                if within["id"] != name or within.get("secret") is not True:  # else a file that everybody reads could have it
                    raise ValueError(f"{within['id']} has the content of a secret")
                return self.secrets(name)
            case {"base64": text}:
                return base64.b64decode(text)
            case {"sealed": sha256}:
                return Sealed(sha256)
            case {"kind": _}:
                return self.of(value)
            case list():
                return tuple(self.value(each, within) for each in value)
        return value


@cache
def _hints(kind: str) -> Mapping[str, Any]:
    """Field → its type, of a kind."""
    found = kind_of(kind)
    assert found
    known = get_type_hints(found)
    return {each.name: known[each.name] for each in fields(found)}


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type. An integer is no truth value, nor the other way round."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in parts)
    if origin is Literal:
        return value in parts
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):  # a named one, which JSON has as a list
        origin, parts = tuple, tuple(get_type_hints(hint).values())
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is ...:
            return all(_is(each, parts[0]) for each in value)
        return len(value) == len(parts) and all(map(_is, value, parts))
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)

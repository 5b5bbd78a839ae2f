"""What changed between two recorded plans of a host, as text. Works on data: a plan may be another version's, with kinds unknown here."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from control.lifecycle.recorded_plans import PlanData
from control.lifecycle.records import RecordedChange
from resources import kind_of, lines_of

UNSHOWN = frozenset({"id", "kind", "reasons"})
"""Why an option of a release was chosen follows from the machine."""

SECRET = "(secret)"


@dataclass(frozen=True)
class Difference:
    """Of one resource. `attributes` are name → (before, after), of one line each, `texts` name → the lines of a unified diff of longer
    ones. `note` says in words what no plan shows."""

    sign: str
    resource: str
    attributes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""


def differences(before: PlanData, after: PlanData, changes: Iterable[RecordedChange] = ()) -> tuple[Difference, ...]:
    """In the order of the plan, what left it last. Of `changes`, which the run made, those that no difference of the plans explains come
    with a note: a secret's content is in no plan, and somebody may have changed the host by hand."""
    then, now = _by_id(before), _by_id(after)
    found = {name: _difference("~" if name in then else "+", name, then.get(name, {}), data) for name, data in now.items()}
    found |= {name: Difference("-", name) for name in then if name not in now}
    shown = {name: each for name, each in found.items() if each.attributes or each.texts or each.sign != "~"}
    beside = {each.resource: each for each in changes if each.resource not in shown}
    shown |= {name: Difference(each.sign, name, note=_note(each, now.get(name, {}))) for name, each in beside.items()}
    return tuple(shown.values())


def new(plan: PlanData) -> tuple[Difference, ...]:
    """A plan of which nothing earlier is known: what it has, without the texts."""
    return tuple(Difference("+", name) for name in _by_id(plan))


def _by_id(plan: PlanData) -> dict[str, Mapping[str, Any]]:
    return {each["id"]: each for resources in plan.values() for each in resources}


def _difference(sign: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    attributes, texts = {}, {}
    for key in dict.fromkeys((*after, *before)):
        if key in UNSHOWN or before.get(key) == after.get(key):
            continue
        then, now = _lines(_value(before, key)), _lines(_value(after, key))
        if key == "content" or len(then) > 1 or len(now) > 1:
            texts[key] = tuple(difflib.unified_diff(then, now, lineterm="", n=1))[2:]
        elif before:
            attributes[key] = ("".join(then), "".join(now))
    return Difference(sign, name, attributes, texts)


def _value(data: Mapping[str, Any], key: str) -> Any:
    """What is not said is as the kind has it by default."""
    value = data.get(key)
    if value is None and data and (kind := kind_of(str(data.get("kind")))):
        value = next((each.default for each in fields(kind) if each.name == key and each.default is not MISSING), None)
    return f"{value:o}" if key == "mode" and isinstance(value, int) else list(value) if isinstance(value, tuple) else value


def _lines(value: Any) -> list[str]:
    match value:
        case None:
            return []
        case str():
            return lines_of(value)
        case {"base64": str(text)}:
            return _lines(_decoded(text))
        case list():
            return [" ".join(_items(each)) for each in value]
    return [" ".join(_items(value))]


def _items(value: Any) -> Iterator[str]:
    """What a value says, in one line."""
    match value:
        case {"secret": _}:
            yield SECRET
        case {"resource": name} | {"id": name}:
            yield str(name)
        case {"sealed": sha256}:
            yield f"sha256 {sha256}"
        case list():
            for each in value:
                yield from _items(each)
        case str():
            yield value
        case _:
            yield json.dumps(value)


def _decoded(text: str) -> str:
    try:
        data = base64.b64decode(text)
    except ValueError:
        return "(damaged)"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"({len(data):,} bytes)"


def _note(change: RecordedChange, data: Mapping[str, Any]) -> str:
    content = data.get("content")
    if isinstance(content, dict) and "secret" in content:
        return SECRET
    if change.resource.startswith("service:"):
        return {"restart": "restarts", "reload": "reloads", "put": "starts"}.get(change.action, "")
    return "was not on the host as declared" if data else ""

"""Whether an option of llama-server takes a value: words of a list, numbers between bounds, flags, JSON."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from inventory.bounds import from_json
from roles.preset import OFF, ON
from roles.wording import did_you_mean, one_of, quoted

if TYPE_CHECKING:
    from inventory.options import Option, Takes, Value

NUMBERS = {"whole": "a whole number", "long": "a whole number", "decimal": "a number"}

BITS = {"whole": 31, "long": 64}
"""How large a whole number may be. std::stoul, which reads the longer ones, takes a sign too."""

BOUNDS = {
    "<": (operator.lt, "less than {}"),
    "<=": (operator.le, "{} or less"),
    ">": (operator.gt, "more than {}"),
    ">=": (operator.ge, "{} or more"),
    "==": (operator.eq, "{}"),
}


def unfit(key: str, value: Value, option: Option) -> str:
    """Why llama-server would not take the value, or would take it for another; nothing where it takes it."""
    text = as_read(value)
    what = f"this is {quoted(value) if isinstance(value, str) else text}"
    if option.values:
        return _unlisted(key, value, option) or _out_of_bounds(key, text, option)
    match option.takes:
        case "nothing" | "on-off" if text not in ON | OFF:
            return f"{quoted(key)} must be on or off, {what}"
        case "whole" | "long" | "decimal" if isinstance(value, bool) or not _is_number(text, option.takes):
            return f"{quoted(key)} takes {_number(text, option.takes)}, {what}"
        case "json" if isinstance(value, bool) or not _is_json(text):
            return f"{quoted(key)} takes JSON, {what}"
        case "text" if isinstance(value, bool):
            hint = f", which its help calls {option.hint}" if option.hint else ""
            return f"{quoted(key)} takes a value{hint}, {what}"
    return _out_of_bounds(key, text, option)


def as_read(value: Value) -> str:
    """A value as a router's preset has it: `True` → `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unlisted(key: str, value: Value, option: Option) -> str:
    """Why a value is none of those that are listed, and no number where it may be one."""
    text = as_read(value)
    words = text.split(option.separator) if option.separator else [text]
    # `none` ends a list: llama-server looks at nothing behind it (common/speculative.cpp: common_speculative_types_from_names).
    looked_at = takewhile("none".__ne__, words) if option.separator else words
    wrong = next((word for word in looked_at if word not in option.values and not _is_number(word, option.takes)), None)
    if wrong is None:
        return ""
    known = list(dict.fromkeys(_shown(word, option.values) for word in option.values if word))
    number = [_number(text, option.takes)] if option.takes in NUMBERS else []
    several = f", or several with {quoted(option.separator)} between them" if option.separator else ""
    what = quoted(wrong) if isinstance(value, str) else text
    told = f"{quoted(key)} takes {one_of([*known, *number])}{several}, this is {what}"
    if isinstance(value, bool) and (meant := "on" if value else "off") in option.values:
        return f'{told}: write "{meant}" in quotes'
    whole = [each for each in known if wrong.lower() in each.split("-")]  # mtp, of draft-mtp
    return told + (did_you_mean(whole[0], whole) if len(whole) == 1 else did_you_mean(wrong.lower(), known))


def _shown(word: str, values: Sequence[str]) -> str:
    """One word for all that mean the same (common/arg.cpp: is_truthy, is_falsey, is_autoy)."""
    if word in ON and set(values) >= ON:
        return "on"
    if word in OFF and set(values) >= OFF:
        return "off"
    return "auto" if word == "-1" and "auto" in values else word


def _out_of_bounds(key: str, text: str, option: Option) -> str:
    """Why llama-server ends with a number."""
    bounds = [(*BOUNDS[sign], limit) for sign, limit in map(str.split, option.refused)]
    if not _is_number(text, "decimal") or not any(reaches(float(text), float(limit)) for reaches, _, limit in bounds):
        return ""
    return f"{quoted(key)} cannot be {one_of([words.format(limit) for _, words, limit in bounds])}, this is {text}"


def _number(text: str, takes: Takes) -> str:
    """What is wanted in place of a text: a number, and a smaller one where it is one."""
    return NUMBERS[takes] + (f" of {BITS[takes] + 1} bits" if takes == "whole" and _is_number(text, "long") else "")


def _is_number(text: str, takes: Takes) -> bool:
    if takes == "decimal":
        return re.fullmatch(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?", text) is not None
    return takes in BITS and re.fullmatch(r"[-+]?[0-9]{1,64}", text) is not None and -(1 << BITS[takes]) <= int(text) < 1 << BITS[takes]


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True

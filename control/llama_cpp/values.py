"""Which words and numbers an option of llama-server takes, read out of the function that handles it.

Only what the source proves is told: a value is refused where every way through the handler throws for it. What handles its value in another
form than those below takes any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from control.llama_cpp.cplusplus import Code
from control.llama_cpp.definitions import Definitions, Function

ELSEWHERE = frozenset(("if", "for", "while", "switch", "try", "return", "throw", "?", "||", "&&"))
"""What a statement has in it of which a part may not be reached."""


NAMED_TYPES = re.compile(
    r"for \( const auto & (\w+) : (?P<table>\w+) \) "
    r"\{ if \( ggml_type_name \( \1 \) == (?P<value>\w+) \) \{ return \1 ; \} \} throw "
)


class Accepted(NamedTuple):
    """The words, where they are listed, with what stands between several of them; and what converts the number that may stand instead."""

    values: tuple[str, ...] = ()
    separator: str = ""
    conversion: str = ""


class Branch(NamedTuple):
    """`if (condition) { block }`"""

    condition: range
    block: range


def accepted(code: Code, body: range, parameter: str, definitions: Definitions) -> Accepted:
    """What a handler takes for its parameter, as far as its body proves that it takes nothing else."""
    first = _statement(code, body)
    if (words := _texts(code, first))[-2:] == ["=", parameter] and not ELSEWHERE & set(words):  # std::string arg_next = value;
        return accepted(code, range(first.stop + 1, body.stop), words[-3], definitions)
    return _compared(code, body, parameter, definitions) or _handed_on(code, body, parameter, definitions) or Accepted()


def refused_numbers(code: Code, body: range, parameter: str, definitions: Definitions) -> tuple[str, ...]:
    """What a handler refuses with `if (value < 0 || value > 1024) { throw …; }` at its beginning: `("< 0", "> 1024")`."""
    found = []
    number, begin = _converted_first(code, body, parameter)
    for branches, otherwise, _ in _chains(code, range(begin, body.stop)):
        if len(branches) != 1 or otherwise or not _throws(code, branches[0].block):
            break
        for part in _either(code, branches[0].condition):
            words = _texts(code, part)
            sign = "-" if words[-2:-1] == ["-"] else ""
            operator = "".join(words[1 : -2 if sign else -1])
            if words[0] == number and operator in ("<", "<=", ">", ">=", "==") and (limit := definitions.number(words[-1])):
                found.append(f"{operator} {sign}{limit}")
    return tuple(found)


def is_read_as_json(code: Code, body: range, parameter: str) -> bool:
    """Whether the first thing that is done with the value is `json::parse(value)`, which throws where it is none."""
    words = _texts(code, _statement(code, body))
    wanted = ["json", "::", "parse", "(", parameter, ")"]
    return not ELSEWHERE & set(words) and any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def _compared(code: Code, body: range, parameter: str, definitions: Definitions) -> Accepted | None:
    """Of `if (value == "a") {…} else if (value == "b") {…} else { throw …; }`, or of several `if` with a `throw` behind them."""
    words: list[str] = []
    index = body.stop
    for branches, otherwise, behind in _chains(code, body):
        index = behind
        for branch in branches:
            if (found := _words(code, branch.condition, parameter, definitions)) is None:
                return None
            words += () if _throws(code, branch.block) else found
        if otherwise:
            conversion = _conversion(code, otherwise, parameter)
            ends = conversion or _throws(code, otherwise)
            return Accepted(tuple(dict.fromkeys(words)), conversion=conversion) if ends else None
    ends = index < body.stop and code.text(index) == "throw"
    return Accepted(tuple(dict.fromkeys(words))) if words and ends else None


def _handed_on(code: Code, body: range, parameter: str, definitions: Definitions) -> Accepted | None:
    """Of `params.x = from_name(value);`, and of `names = string_split<std::string>(value, ','); types = from_names(names);`."""
    first = _statement(code, body)
    words = _texts(code, first)
    split = ["=", "string_split", "<", "std", "::", "string", ">", "(", parameter, ","]
    at = next((at for at in range(1, len(words)) if words[at : at + len(split)] == split), 0)
    if not at:
        function = _called(code, first, parameter, definitions)
        return _of_function(function, definitions) if function else None
    separator = words[at + len(split)].strip("'")
    function = _called(code, _statement(code, range(first.stop + 1, body.stop)), words[at - 1], definitions)
    found = _of_each(function, definitions) if function and len(separator) == 1 else None
    return found._replace(separator=separator) if found else None


def _called(code: Code, statement: range, argument: str, definitions: Definitions) -> Function | None:
    """The function that a statement hands nothing but the argument to, and does so each time."""
    if ELSEWHERE & set(_texts(code, statement)):
        return None
    calls = [
        index - 1
        for index in statement
        if code.text(index) == "(" and _texts(code, code.inside(index)) == [argument] and code.tokens[index - 1].kind == "name"
    ]
    names = [code.text(index) for index in calls if code.text(index - 1) not in ("::", ".", "->")]
    return definitions.function(names[0]) if len(names) == len(calls) == 1 else None


def _of_function(function: Function, definitions: Definitions) -> Accepted | None:
    code, parameter, body = function
    return (
        _compared(code, body, parameter, definitions)
        or _in_table(code, body, parameter, definitions)
        or _named_types(function, definitions)
    )


def _of_each(function: Function, definitions: Definitions) -> Accepted | None:
    """Of a function that looks at its names in a loop, `for (const auto & name : names) {…}`."""
    code, parameter, body = function
    index = body.start
    while index < body.stop and code.text(index) not in ELSEWHERE:
        index = code.closing.get(index, index) + 1
    words = _texts(code, code.inside(index + 1)) if code.text(index) == "for" and code.text(index + 1) == "(" else []
    if words[-2:] != [":", parameter]:
        return None
    block, _ = _block(code, code.closing[index + 1] + 1)
    return _compared(code, block, words[-3], definitions) or _in_table(code, block, words[-3], definitions)


def _in_table(code: Code, body: range, key: str, definitions: Definitions) -> Accepted | None:
    """Of `found = table.find(key); if (found == table.end()) { throw …; }`, and of `if (found != table.end()) {…} throw …;`."""
    first = _statement(code, body)
    words = _texts(code, first)
    if len(words) < 8 or words[-7] != "=" or words[-5:] != [".", "find", "(", key, ")"]:
        return None
    found, table = words[-8], words[-6]
    for branches, otherwise, behind in _chains(code, range(first.stop + 1, body.stop)):
        (condition, block), *more = branches
        compared = _texts(code, condition)
        if more or [*compared[:1], *compared[2:]] != [found, table, ".", "end", "(", ")"]:
            return None
        there_is_none = block if compared[1] == "==" else otherwise or range(behind, body.stop)
        values = definitions.keys(table) if _throws(code, there_is_none) else ()
        return Accepted(values) if values else None
    return None


def _named_types(function: Function, definitions: Definitions) -> Accepted | None:
    """Of `for (const auto & type : table) { if (ggml_type_name(type) == value) { return type; } } throw …;`"""
    code, parameter, body = function
    found = NAMED_TYPES.match(" ".join(_texts(code, body)))
    values = definitions.types(found["table"]) if found and found["value"] == parameter else ()
    return Accepted(values) if values else None


def _words(code: Code, condition: range, parameter: str, definitions: Definitions) -> tuple[str, ...] | None:
    """The words for which `value == "a" || is_truthy(value)` holds; None where it asks for anything else."""
    found: list[str] = []
    for part in _either(code, condition):
        words, last = _texts(code, part), part.stop - 1
        if words[:-1] == [parameter, "=="] and code.tokens[last].kind == "string":
            found.append(words[-1])
        elif words[-3:] == ["(", parameter, ")"] and (function := definitions.function(words[-4] if len(words) > 3 else "")):
            returned = _statement(function.code, function.body)
            inner = range(returned.start + 1, returned.stop)
            if function.code.text(returned.start) != "return":
                return None
            if (more := _words(function.code, inner, function.parameter, definitions)) is None:
                return None
            found += more
        else:
            return None
    return tuple(found)


def _chains(code: Code, within: range) -> Iterator[tuple[list[Branch], range | None, int]]:
    """Every `if … else if … else …` from the beginning on, one behind the other, with the index behind it."""
    index = within.start
    while index < within.stop and code.text(index) == "if" and code.text(index + 1) == "(":
        branches, otherwise = [], None
        while True:
            block, behind = _block(code, code.closing[index + 1] + 1)
            branches.append(Branch(code.inside(index + 1), block))
            index = behind
            if code.text(index) != "else":
                break
            index += 1
            if code.text(index) != "if":
                otherwise, index = _block(code, index)
                break
        yield branches, otherwise, index


def _block(code: Code, index: int) -> tuple[range, int]:
    """What stands between the braces, or the one statement that needs none, and the index behind it."""
    if code.text(index) == "{":
        return code.inside(index), code.closing[index] + 1
    statement = _statement(code, range(index, len(code.tokens)))
    return statement, statement.stop + 1


def _statement(code: Code, within: range) -> range:
    """The first statement, without its semicolon."""
    index = within.start
    while index < within.stop and code.text(index) != ";":
        index = code.closing.get(index, index) + 1
    return range(within.start, min(index, within.stop))


def _either(code: Code, condition: range) -> list[range]:
    """What stands between `||`."""
    found, begin, index = [], condition.start, condition.start
    while index < condition.stop:
        if code.text(index) == "||":
            found.append(range(begin, index))
            begin = index + 1
        index = code.closing.get(index, index) + 1
    return [each for each in (*found, range(begin, condition.stop)) if each]


def _converted_first(code: Code, body: range, parameter: str) -> tuple[str, int]:
    """The name of the number in `const float number = std::stof(value);`, and where it goes on; else the parameter's own."""
    first = _statement(code, body)
    words = _texts(code, first)
    if len(words) > 7 and words[-7:-3] == ["=", "std", "::", words[-4]] and words[-4].startswith("sto") and words[-2] == parameter:
        return words[-8], first.stop + 1
    return parameter, body.start


def _conversion(code: Code, block: range, parameter: str) -> str:
    """`stoi`, where all that a block does is `params.x = std::stoi(value);`; else nothing."""
    words = _texts(code, block)
    one = words.count(";") == 1 and words[-1] == ";" and not ELSEWHERE & set(words)
    return next((words[at] for at in range(len(words) - 3) if one and words[at].startswith("sto") and words[at + 2] == parameter), "")


def _throws(code: Code, block: range) -> bool:
    return bool(block) and code.text(block.start) == "throw"


def _texts(code: Code, within: range) -> list[str]:
    return [token.text for token in code.tokens[within.start : within.stop]]

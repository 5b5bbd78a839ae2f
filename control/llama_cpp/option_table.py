"""The table of options in llama.cpp's source, read: which there are, what each takes, and what each is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from control.llama_cpp.cplusplus import Code, Token
from control.llama_cpp.definitions import HEADER, TYPES, Definitions
from control.llama_cpp.limits import LIMITING, MODEL, ROUTER, refused_elsewhere, rules_of
from control.llama_cpp.sizing import CONTEXT, FIT, sizing
from control.llama_cpp.tensor_types import tensor_types
from control.llama_cpp.values import accepted, is_read_as_json, refused_numbers
from inventory.errors import PaddockError
from inventory.options import Option, Options, Part, Takes, bare
from roles.preset import OFF, ON

ARGUMENTS, HTTP = "common/arg.cpp", "tools/server/server-http.cpp"
FILES = tuple(dict.fromkeys((ARGUMENTS, HTTP, "common/chat.cpp", *LIMITING, TYPES, HEADER, FIT, CONTEXT)))
"""What is read of a source tree. Older versions lack some of them."""

SERVER, EVERYBODY = "LLAMA_EXAMPLE_SERVER", "LLAMA_EXAMPLE_COMMON"


def options_of(files: Mapping[str, str], source: str, label: str) -> Options:
    """What a version of llama-server takes, out of its source: path → text, of FILES. Raises PaddockError where that has another form."""
    try:
        definitions = Definitions(files)
        found = tuple(_options(files, definitions))
    except (ValueError, IndexError, KeyError) as error:
        raise PaddockError(f"llama.cpp {label}: its options cannot be read out of {ARGUMENTS}: {error}") from None
    if not {"port", "ctx-size"} <= {each.name for each in found}:
        raise PaddockError(
            f"llama.cpp {label}: its options cannot be read out of {ARGUMENTS}: it is written in another way than any before"
        )
    return Options(source, label, found, rules_of(definitions), tuple(tensor_types(files.get(HEADER, ""))), sizing(files))


def _options(files: Mapping[str, str], definitions: Definitions) -> Iterator[Option]:
    code = Code.of(files[ARGUMENTS])
    elsewhere = refused_elsewhere(files)
    lists = dict(_lists_of_programs(code))
    foreign = list(_for_other_programs(code))
    answering = _read_fields(files.get(HTTP, "")) - _read_fields(files.get(MODEL, ""))
    reserved = _reserved(files.get(ROUTER, ""))
    seen: set[tuple[str, ...]] = set()
    for bracket in code.calls("common_arg"):
        if any(bracket in each for each in foreign) or not _is_table_entry(code, bracket):
            continue
        more = dict(_methods(code, bracket))
        programs = _programs(code, more.get("set_examples"), lists) if "set_examples" in more else frozenset((EVERYBODY,))
        without = _programs(code, more["set_excludes"], lists) if "set_excludes" in more else frozenset()
        if ({SERVER, EVERYBODY} & programs and SERVER not in without) or "set_preset_only" in more:
            option = _option(code, bracket, more, answering, reserved, definitions)
            if option.names not in seen:
                seen.add(option.names)
                yield replace(option, refused=option.refused + sum((elsewhere.get(bare(name), ()) for name in option.names), ()))


def _is_table_entry(code: Code, bracket: int) -> bool:
    """Whether it is `common_arg({"-c", "--ctx-size"}, …)`, and not a constructor's declaration."""
    return code.text(bracket + 1) == "{" and code.tokens[bracket + 2].kind == "string"


def _option(
    code: Code, bracket: int, more: Mapping[str, int], answering: frozenset[str], reserved: frozenset[str], definitions: Definitions
) -> Option:
    names, *rest = code.parts(bracket)
    negated = rest.pop(0) if code.text(rest[0].start) == "{" else range(0)
    handler, words = rest[-1], " ".join(code.strings(rest[-2])) if len(rest) > 1 else ""
    takes, fields, called, values = _handled(code, handler, definitions)
    environment = "".join(code.strings(code.inside(more["set_env"]))) if "set_env" in more else ""
    part: Part = "model"
    if "set_preset_only" in more:
        part = "preset"
        if takes == "text":  # the router asks whether it is on
            takes, values = "text or on-off", Values(values=(*sorted(ON), *sorted(OFF)))
    elif "exit" in called or {"usage", "completion"} & fields:
        part = "ends"
    elif "model" in fields:
        part = "source"
    elif environment in reserved:
        part = "router"
    elif fields & answering:
        part = "server"
    removed = re.search(r"has been removed\W*(.*)", words, re.DOTALL)
    deprecated = re.search(r"DEPRECATED(?::| in favor of)?\s*((?:use )?`?--[^\]:,()]*)?", words)
    instead = removed[1] if removed else (deprecated[1] or "") if deprecated else ""
    hint = "".join(code.strings(rest[0])) if takes not in ("nothing", "on-off") else ""
    if takes == "text" and not values.several and "," in hint and not values.values and not hint.startswith("{"):
        values = values._replace(several=",")
    return Option(
        names=tuple(code.strings(names)),
        takes=takes,
        part=part,
        negated=tuple(code.strings(negated)),
        env=environment,
        hint=hint,
        gone="removed" if removed or "arg_removed" in called else "deprecated" if deprecated else "",
        instead=re.sub(r"^(?=`?--)", "use ", re.sub(r"\s+", " ", instead).strip(" .")).replace("`", ""),
        **values._asdict(),
    )


class Values(NamedTuple):
    """What Option says of the values, besides what kind they are."""

    values: tuple[str, ...] = ()
    separator: str = ""
    refused: tuple[str, ...] = ()
    several: str = ""


def _handled(code: Code, handler: range, definitions: Definitions) -> tuple[Takes, frozenset[str], frozenset[str], Values]:
    """What a handler, `[](common_params & params, int value) {…}`, takes; the fields of `params` that it touches; all names in it; and
    which values it takes."""
    bracket = next((index for index in handler if code.text(index) == "(" and index in code.closing), -1)
    opening = next((index for index in range(code.closing[bracket], handler.stop) if code.text(index) == "{"), -1) if bracket >= 0 else -1
    if opening < 0:
        raise ValueError("an option is handled by something that is no function written on the spot")
    body = code.inside(opening)
    names = frozenset(code.names(body))
    fields = frozenset(
        code.text(index + 2) for index in body if code.tokens[index] == Token("name", "params") and code.text(index + 1) == "."
    )
    parameters = code.parts(bracket)
    if len(parameters) != 2:
        return "nothing" if len(parameters) < 2 else "two", fields, names, Values()
    kinds = code.names(parameters[1])
    if "bool" in kinds:
        return "on-off", fields, names, Values()
    refused = refused_numbers(code, body, kinds[-1], definitions)
    if "int" in kinds:
        return "whole", fields, names, Values(refused=refused)
    words = accepted(code, body, kinds[-1], definitions)
    values = Values(words.values, words.separator)
    if {"is_truthy", "parse_bool_value"} & names:
        return "text or on-off", fields, names, values
    if is_read_as_json(code, body, kinds[-1]):
        return "json", fields, names, values
    # What is nothing but a number is converted at once; what may be a word too is compared with it first.
    compared = any(code.text(index) == "==" for index in body) and not words.conversion
    converted = {code.text(index - 2) for index in body if code.text(index) == kinds[-1] and code.text(index - 1) == "("}
    if not compared and converted & {"stof", "stod"}:
        return "decimal", fields, names, values._replace(refused=refused)
    if not compared and "stoi" in converted:
        return "whole", fields, names, values._replace(refused=refused)
    if not compared and converted & {"stol", "stoul", "stoull"}:
        return "long", fields, names, values._replace(refused=refused)
    return "text", fields, names, values._replace(several=_several(code, body, kinds[-1], names))


def _several(code: Code, body: range, parameter: str, names: frozenset[str]) -> str:
    """What a handler takes several values of a text by, as Option says it."""
    split = ["string_split", "<", "std", "::", "string", ">", "(", parameter, ","]
    texts = [code.text(index) for index in body]
    for at in range(len(texts) - len(split)):
        if texts[at : at + len(split)] == split:
            return texts[at + len(split)].strip("'")
    if {"parse_csv_row", "parse_tensor_buffer_overrides"} & names:
        return ","
    return "again" if {"push_back", "emplace_back"} & names else ""


def _methods(code: Code, bracket: int) -> Iterator[tuple[str, int]]:
    """`.set_env("…")` and what else is called on it: the name, and where its bracket is."""
    index = code.closing[bracket] + 1
    while code.text(index) == "." and code.text(index + 2) == "(":
        yield code.text(index + 1), index + 2
        index = code.closing[index + 2] + 1


def _programs(code: Code, bracket: int | None, lists: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The programs that are named, one by one or by the name of a list."""
    names = code.names(code.inside(bracket)) if bracket else []
    return frozenset(program for name in names for program in lists.get(name, (name,)))


def _lists_of_programs(code: Code) -> Iterator[tuple[str, frozenset[str]]]:
    """`mmproj_examples = {LLAMA_EXAMPLE_MTMD, …}`"""
    for index in range(len(code.tokens) - 3):
        if code.text(index + 1) == "=" and code.text(index + 2) == "{" and code.text(index + 3).startswith("LLAMA_EXAMPLE_"):
            yield code.text(index), frozenset(code.names(code.inside(index + 2)))


def _for_other_programs(code: Code) -> Iterator[range]:
    """The blocks that a server never comes to: `if (ex == LLAMA_EXAMPLE_CLI) {…}`, and the `else {…}` of its own."""
    for bracket in code.calls("if"):
        condition = [code.text(index) for index in code.inside(bracket)]
        if len(condition) != 3 or condition[:2] != ["ex", "=="]:
            continue
        block = code.closing[bracket] + 1
        if code.text(block) == "{" and condition[2] != SERVER:
            yield code.inside(block)
        elif code.text(block) == "{" and (code.text(code.closing[block] + 1), code.text(code.closing[block] + 2)) == ("else", "{"):
            yield code.inside(code.closing[block] + 2)


def _read_fields(text: str) -> frozenset[str]:
    """`params.port` → `port`"""
    return frozenset(re.findall(r"\bparams\.(\w+)", text))


def _reserved(text: str) -> frozenset[str]:
    """The environment variables of what a router takes out of every model's options (tools/server/server-models.cpp)."""
    body = re.search(r"\bvoid unset_reserved_args\([^)]*\)\s*\{([^{}]*)", text)
    return frozenset(re.findall(r'unset_option\("(\w+)"\)', body[1])) if body else frozenset()

"""What the files of llama.cpp define: functions, tables, types and numbers, found by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from control.llama_cpp.cplusplus import Code

TYPES, HEADER = "ggml/src/ggml.c", "ggml/include/ggml.h"
"""Where the types of numbers have their names, and the priorities of threads their numbers."""


class Function(NamedTuple):
    """A function's code, the name of its first parameter, and its body."""

    code: Code
    parameter: str
    body: range


@dataclass(frozen=True)
class Definitions:
    """The files of a source tree, path → text, in which functions, tables and numbers are found by name."""

    files: Mapping[str, str]

    def function(self, name: str) -> Function | None:
        """The one definition of a function; None where there is none, or several."""
        found = self._found(rf"^\w[^\n;{{}}]*\b{re.escape(name)}\([^;{{}}]*\)\s*\{{\n.*?^\}}")
        bracket = next(found.calls(name), -1) if found else -1
        parameters = found.parts(bracket) if found and bracket >= 0 else []
        if not found or not parameters or found.text(found.closing[bracket] + 1) != "{":
            return None
        return Function(found, found.names(parameters[0])[-1], found.inside(found.closing[bracket] + 1))

    def keys(self, table: str) -> tuple[str, ...]:
        """The keys of `table = {{"none", NONE}, …};`, or nothing where it has another form."""
        code = self._table(table)
        entries = code.parts(0) if code else []
        if not code or any(code.text(each.start) != "{" or code.tokens[each.start + 1].kind != "string" for each in entries):
            return ()
        return tuple(code.text(each.start + 1) for each in entries)

    def types(self, table: str) -> tuple[str, ...]:
        """The names of the types in `table = {GGML_TYPE_F32, …};`, or nothing where one of them has none."""
        code = self._table(table)
        names = [self.type_names.get(code.text(each.start), "") for each in code.parts(0)] if code else []
        return tuple(names) if all(names) else ()

    @cached_property
    def type_names(self) -> dict[str, str]:
        """The types of numbers by what the source calls them: `{"GGML_TYPE_Q8_0": "q8_0"}`"""
        return {kind: name for kind, (name, _) in self._types.items()}

    @cached_property
    def quantized(self) -> tuple[str, ...]:
        """The names of the types that are quantized."""
        return tuple(name for name, fields in self._types.values() if re.search(r"\.is_quantized\s*=\s*true\b", fields))

    def number(self, text: str) -> str:
        """`0.0f` → `0.0`, and the number that an enumeration gives a name; nothing where it is neither."""
        if re.fullmatch(r"[0-9]+(\.[0-9]*f?)?", text):
            return text.rstrip("f")
        listed = re.search(rf"\benum\s+\w+\s*\{{([^{{}}]*\b{re.escape(text)}\b[^{{}}]*)\}}", self.files.get(HEADER, ""))
        count = -1
        for each in re.sub(r"//[^\n]*", "", listed[1]).split(",") if listed else ():
            name, _, said = (part.strip() for part in each.partition("="))
            if said and not re.fullmatch(r"-?[0-9]+", said):
                return ""
            count = int(said) if said else count + 1
            if name == text:
                return str(count)
        return ""

    def _table(self, name: str) -> Code | None:
        return self._found(rf"\b{re.escape(name)}\s*=?\s*(\{{.*?\}})\s*;")

    def _found(self, pattern: str) -> Code | None:
        if pattern not in self._sought:
            common = (text for path, text in self.files.items() if path.startswith("common/"))
            found = [each for text in common for each in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]
            self._sought[pattern] = None
            with suppress(ValueError):  # the end of it is not where it seemed to be
                self._sought[pattern] = Code.of(found[0]) if len(found) == 1 else None
        return self._sought[pattern]

    @cached_property
    def _sought(self) -> dict[str, Code | None]:
        return {}

    @cached_property
    def _types(self) -> dict[str, tuple[str, str]]:
        described = re.findall(r"\[(GGML_TYPE_\w+)\]\s*=\s*\{([^{}]*)\}", self.files.get(TYPES, ""))
        return {kind: (name[1], fields) for kind, fields in described if (name := re.search(r'\.type_name\s*=\s*"(\w+)"', fields))}

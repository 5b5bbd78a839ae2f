"""C++ as tokens with their brackets matched: as much of it as it takes to read a table of calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

TOKEN = re.compile(
    r"""
      (?P<nothing> \s+ | //[^\n]* | /\*.*?\*/ | ^[ \t]*\#(?:\\\n|[^\n])* )
    | (?:u8|[uUL])?R"(?P<fence>[^()\\\s]{0,16})\( (?P<raw>.*?) \)(?P=fence)"
    | (?:u8|[uUL])?(?P<string>"(?:\\.|[^"\\\n])*")
    | (?P<number>\.?[0-9](?:[eEpP][-+]|'[0-9A-Za-z]|[\w.])*)
    | (?P<character>'(?:\\.|[^'\\\n])+')
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>::|->|==|!=|\|\||&&|.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
OPENING = {"(": ")", "[": "]", "{": "}"}


class Token(NamedTuple):
    """`text` of a string is what it stands for, without its quotes."""

    kind: Literal["string", "name", "mark", "number", "character"]
    text: str


@dataclass(frozen=True)
class Code:
    """Tokens, and for each opening bracket's index that of the one that closes it."""

    tokens: tuple[Token, ...]
    closing: dict[int, int]

    @classmethod
    def of(cls, text: str) -> Code:
        """Raises ValueError where the brackets do not match."""
        found = tuple(_tokens(text))
        closing: dict[int, int] = {}
        open_ones: list[int] = []
        for index, token in enumerate(found):
            if token.kind != "mark":
                continue
            if token.text in OPENING:
                open_ones.append(index)
            elif token.text in OPENING.values():
                if not open_ones or OPENING[found[open_ones[-1]].text] != token.text:
                    raise ValueError(f"a {token.text} closes nothing")
                closing[open_ones.pop()] = index
        if open_ones:
            raise ValueError(f"a {found[open_ones[-1]].text} is never closed")
        return cls(found, closing)

    def text(self, index: int) -> str:
        return self.tokens[index].text if index < len(self.tokens) else ""

    def calls(self, name: str) -> Iterator[int]:
        """The index of the bracket behind each `name(`."""
        for index in range(len(self.tokens)):
            if self.tokens[index] == Token("name", name) and self.text(index + 1) == "(":
                yield index + 1

    def inside(self, bracket: int) -> range:
        return range(bracket + 1, self.closing[bracket])

    def parts(self, bracket: int) -> list[range]:
        """What stands between the commas inside a bracket."""
        found, begin, index = [], bracket + 1, bracket + 1
        while index < self.closing[bracket]:
            if index in self.closing:
                index = self.closing[index]
            elif self.tokens[index] == Token("mark", ","):
                found.append(range(begin, index))
                begin = index + 1
            index += 1
        return [*found, range(begin, self.closing[bracket])] if begin < self.closing[bracket] else found

    def names(self, within: range) -> list[str]:
        return [token.text for token in self.tokens[within.start : within.stop] if token.kind == "name"]

    def strings(self, within: range) -> list[str]:
        return [token.text for token in self.tokens[within.start : within.stop] if token.kind == "string"]


def _tokens(text: str) -> Iterator[Token]:
    for match in TOKEN.finditer(text):
        if (raw := match["raw"]) is not None:
            yield Token("string", raw)
        elif match["string"]:
            yield Token("string", _meant(match["string"]))
        elif (kind := match.lastgroup) and kind != "nothing":
            yield Token(kind, match[kind])  # type: ignore[arg-type]  # the other groups are called as the kinds are


def _meant(literal: str) -> str:
    """The escapes that matter in an option's name or help are Python's too; a literal with any other stays as it is written."""
    try:
        return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError):
        return literal[1:-1]

"""Mistakes of YAML syntax: where each began, and what to do. The parser says where it noticed, which is often a line later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from inventory.problems import Place, Problem

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

OPENING = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)

LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

KEY_OR_ITEM = re.compile(r"\s*(-\s|(-\s+)*[A-Za-z0-9_.\[\]/-]+\s*:(\s|$))")
"""What a line begins with that is no text within quotes."""

NO_SPACE = re.compile(r"[A-Za-z0-9_.-]+:[^\s:/]")
"""`port:22`, but not the beginning of a URL."""

SPACE = "a space is missing behind the colon"
COLON = "a colon is missing behind this key, or text over several lines is not in quotes"
QUOTE = "a quote opens here and is not closed on its line"
ENDED = "the quote that opens here ends before the text does: double a quote within the text, or put the other kind around it"
DEEPER = "this line is indented deeper than the one before it, which has a value already"
FIRST = "the first line is indented, and line {line}, which belongs beside it, is not: indent both alike"
BRACKET = "the bracket that opens here is never closed, or a comma is missing in it"
TAG = "text that begins with ! has to be in quotes: an inventory is data only and has no tags"
DIRECTIVE = "a line that begins with % is a directive, which an inventory has no use for: leave it out"
CLOSES_NOTHING = "this bracket closes none that is open: leave it out, or put the text in quotes"
BEHIND = "the document is over before this line: an inventory is one mapping, with every key of its top at the left"

AT_ITS_BEGIN = ("end of stream", "document indicator", "did not find expected ','", "while scanning an a", " a tag")
"""Where the parser says these, what it was reading is at fault."""

# What libyaml and PyYAML's own parser say, in the words of somebody who has to repair it.
SYNTAX = (
    ("mapping values are not allowed", "a colon where no key can be: check the indentation, and put text with a colon in quotes"),
    ("could not find expected ':'", COLON),
    ("did not find expected key", "the indentation of this line differs from that of its neighbours, or the value before it does not end"),
    ("did not find expected '-' indicator", "this line is indented otherwise than the list around it"),
    ("block sequence entries are not allowed", "a list cannot begin here: put it on a line of its own"),
    ("found unexpected end of stream", "a quote opens here and is never closed"),
    ("found unexpected document indicator", "a quote opens here and is never closed"),
    ("did not find expected ',' or", BRACKET),
    ("while parsing a flow node", "a value is missing in front of this comma"),
    ("while parsing a block node", "a comma separates things within brackets only: put text that begins with one in quotes"),
    ("found unexpected ':'", "a space is missing behind this colon"),
    ("cannot start any token", "text that begins with this character has to be in quotes"),
    ("while scanning an a", "text that begins with & or * has to be in quotes"),
    (" a tag", TAG),
    ("tag handle", TAG),
    ("quoted scalar", "a backslash in double quotes begins an escape: write two of them, or use single quotes"),
    ("<document start>", BEHIND),
    ("directive", DIRECTIVE),
    ("incompatible YAML document", DIRECTIVE),
    ("mapping keys are not allowed", "a ? with a space behind it begins a key, which cannot be here: put the text in quotes"),
    ("block scalar", "behind | or > the line has to end: the text begins on the next line"),
)


@dataclass(frozen=True)
class _Noticed:
    """What the parser says, the place where it noticed, and what it was reading then."""

    said: str
    at: tuple[int, int]
    since: tuple[int, int]


def syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    """What is wrong with a YAML text that its parser refused."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(Place(1, 1), f"is not YAML: {error}")
    said = " ".join(part for part in (error.problem, error.context) if part)
    mark = error.problem_mark or error.context_mark
    at = (mark.line, mark.column) if mark else (0, 0)
    opened = error.context_mark or mark
    noticed = _Noticed(said, at, (opened.line, opened.column) if opened else at)
    lines = LINE_BREAK.split(text)
    for line in (noticed.at[0], noticed.since[0] if "end of stream" in said else noticed.at[0]):
        if line < len(lines) and (tab := tab_in(lines[line], line)):
            return tab
    (line, column), words = _began(noticed, lines, list(_tokens(text, at)))
    line = min(line, len(lines) - 1)  # libyaml counts one more where the last has no end
    return Problem(Place(line + 1, min(column, len(lines[line])) + 1), f"is not YAML: {words}")


def tab_in(line: str, number: int) -> Problem | None:
    """The tab that indents a line; `number` counts from 0."""
    indentation = line[: len(line) - len(line.lstrip(" \t"))]
    if "\t" not in indentation:
        return None
    return Problem(Place(number + 1, indentation.index("\t") + 1), "a tab indents this line, which YAML does not allow: use spaces")


def _tokens(text: str, until: tuple[int, int]) -> Iterator[Any]:
    """The first token with a text of its own, and all scalars and brackets, up to where the parser noticed the mistake."""
    loader = LOADER(text)
    first = True
    try:
        while (token := loader.get_token()) is not None:
            if _start(token) >= until:
                return
            if first and not isinstance(token, (yaml.StreamStartToken, yaml.DocumentStartToken, yaml.DirectiveToken)):
                first = False
                yield token
            elif isinstance(token, (yaml.ScalarToken, *OPENING, *CLOSING)):
                yield token
    except yaml.YAMLError:
        return


def _began(noticed: _Noticed, lines: Sequence[str], tokens: Sequence[Any]) -> tuple[tuple[int, int], str]:
    """Line and column from 0, and what to say."""
    said, at = noticed.said, noticed.at
    scalars = [each for each in tokens if isinstance(each, yaml.ScalarToken)]
    for each in scalars:
        if each.style in ("'", '"') and _swallows(each, lines):
            return _start(each), QUOTE
    if "end of stream" in said and any(map(KEY_OR_ITEM.match, lines[noticed.since[0] + 1 :])):
        return noticed.since, QUOTE
    last = scalars[-1] if scalars else None
    if last and last.style in ("'", '"') and _end(last) == at and _follows(lines, at):
        return _start(last), ENDED
    if last and "mapping values are not allowed" in said and last.start_mark.line < at[0] and _end(last) == at:
        return _continued(last, lines)
    if "could not find expected ':'" in said:
        return noticed.since, _missing(lines[noticed.since[0]], noticed.since[1])
    if last and ("did not find expected key" in said or "<document start>" in said) and _stands_alone(last, at, lines):
        return _start(last), _missing(lines[last.start_mark.line], last.start_mark.column)
    if "<document start>" in said and tokens and tokens[0].start_mark.column > at[1]:
        return _start(tokens[0]), FIRST.format(line=at[0] + 1)
    if _stands_at(lines, at, "]}") and any(each in said for each in ("expected key", "block node", "<document start>")):
        return at, CLOSES_NOTHING
    if "while parsing a flow node" in said and not _stands_at(lines, at, ",") and (brackets := _open_brackets(tokens)):
        return brackets[-1], BRACKET
    return (noticed.since if any(each in said for each in AT_ITS_BEGIN) else at), next(
        (words for begin, words in SYNTAX if begin in said), said
    )


def _stands_at(lines: Sequence[str], at: tuple[int, int], characters: str) -> bool:
    """Whether one of the characters does."""
    return at[0] < len(lines) and lines[at[0]].startswith(tuple(characters), at[1])


def _open_brackets(tokens: Iterable[Any]) -> list[tuple[int, int]]:
    """Where the brackets stand that were opened and not closed."""
    found: list[tuple[int, int]] = []
    for each in tokens:
        if isinstance(each, OPENING):
            found.append(_start(each))
        elif isinstance(each, CLOSING) and found:
            found.pop()
    return found


def _swallows(scalar: Any, lines: Sequence[str]) -> bool:
    """Whether a quoted text goes on over lines that were meant to be keys or items."""
    begin, end = scalar.start_mark, scalar.end_mark
    inner = [*lines[begin.line + 1 : end.line], lines[end.line][: end.column]] if end.line > begin.line else []
    return any(map(KEY_OR_ITEM.match, inner))


def _follows(lines: Sequence[str], at: tuple[int, int]) -> bool:
    """Whether text stands there, right behind a quote."""
    return at[0] < len(lines) and bool(re.match(r"[^\s,:\]}#]", lines[at[0]][at[1] :]))


def _continued(scalar: Any, lines: Sequence[str]) -> tuple[tuple[int, int], str]:
    """Of text that goes on over a line which has a key in it: the text is a key without a colon, or the value of one."""
    line, column = _start(scalar)
    if not lines[line][:column].strip(" -"):
        return (line, column), _missing(lines[line], column)
    following = next(number for number in range(line + 1, len(lines)) if lines[number].strip())
    return (following, len(lines[following]) - len(lines[following].lstrip())), DEEPER


def _stands_alone(scalar: Any, at: tuple[int, int], lines: Sequence[str]) -> bool:
    """Whether a plain text is all that a line above has: a comment or an empty line ended it before the parser missed the colon."""
    line, column = _start(scalar)
    return not scalar.style and line < at[0] and not lines[line][:column].strip()


def _missing(line: str, column: int) -> str:
    return SPACE if NO_SPACE.match(line[column:]) else COLON


def _start(token: Any) -> tuple[int, int]:
    return token.start_mark.line, token.start_mark.column


def _end(token: Any) -> tuple[int, int]:
    return token.end_mark.line, token.end_mark.column

"""Inventories with a mistake in them: one that is made at a known place of the YAML, or one of bytes, which has none."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from inventory.compose import compose
from inventory.json_schema import document_schema
from inventory.marks import plain
from tests.unit.roles import everything

ROOT = Path(__file__).parents[3]
Path_ = tuple[str, ...]

SCHEMA = document_schema()


def inventories() -> dict[str, str]:
    """Every inventory of the repository by where it stands: YAML files, texts in tests that are a whole one, one that uses every role."""
    found = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.glob("inventory/*.yml")) + sorted(ROOT.glob("tests/**/*.yml"))}
    texts = {name: path.read_text() for name, path in found.items() if _is_text(path)}
    for path in sorted(ROOT.glob("tests/**/*.py")):
        source = path.read_text()
        if "fleet:" in source and "hosts:" in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts[f"{path.relative_to(ROOT)}:{node.lineno}"] = node.value
    texts = {name: text for name, text in texts.items() if re.search(r"^fleet: ", text, re.M) and "hosts:" in text}
    in_json = json.dumps(everything.document())
    return {**texts, "every role": yaml.safe_dump(json.loads(in_json), sort_keys=False), "every role, in JSON": in_json}


def bytes_of_all() -> list[bytes]:
    """What bytes are changed of: every file, text or not, and all inventories."""
    files = sorted(ROOT.glob("inventory/*.yml")) + sorted(ROOT.glob("tests/**/*.yml"))
    return [path.read_bytes() for path in files] + [text.encode() for text in inventories().values()]


def _is_text(path: Path) -> bool:
    try:
        return bool(path.read_bytes().decode())
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True)
class Mutant:
    kind: str
    text: str
    at: tuple[tuple[int, int, int], ...] = ()
    """Where one of the errors has to be, if there are any: a line, and its first and last column. Empty where nobody knows."""
    says: str = ""
    """What that error has in its words."""
    refused: bool = False
    """Whether there has to be an error."""


@dataclass(frozen=True)
class Spot:
    """A key with its value, or an item of a list, as PyYAML finds it in the text."""

    path: Path_
    key: Any
    node: Any
    holder: Any

    @property
    def name(self) -> str:
        return self.path[-1]


class Text:
    """An inventory's text and what stands where in it. Raises yaml.YAMLError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        self.spots = list(_spots(self.root, (), set()))
        self.keys = [each for each in self.spots if each.key is not None]
        self.names = {each.name for each in self.keys if len(each.path) == 2 and each.path[0] in ("hosts", "models", "clients", "users")}

    def replaced(self, begin: int, end: int, by: str) -> str:
        return self.text[:begin] + by + self.text[end:]

    def valued(self, spot: Spot, by: str) -> str:
        """With another value, on one line."""
        begin, end = spot.node.start_mark.index, end_of(spot.node)
        space = " " if begin and self.text[begin - 1] not in " \n[{" and by else ""
        return self.replaced(begin, end, space + by)


def _spots(node: Any, path: Path_, seen: set[int]) -> Iterator[Spot]:
    """What aliases repeat is there once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield Spot((*path, key.value), key, value, node)
                yield from _spots(value, (*path, key.value), seen)
    elif isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield Spot((*path, str(at)), None, item, node)
            yield from _spots(item, (*path, str(at)), seen)


def end_of(node: Any) -> int:
    """Behind the last character of a value; a block ends with what is last in it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def schemas_at(path: Path_) -> list[Any]:
    """What the schema that editors get has at a path, each member of a union by itself."""
    found = [SCHEMA]
    for key in path:
        found = [member for each in found for member in _members(_inner(each, key))]
    return found


def _members(schema: Any) -> Iterator[Any]:
    if not schema:
        return
    if "$ref" in schema:
        yield from _members(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _members(each)
    else:
        yield schema


def _inner(schema: Any, key: str) -> Any:
    if key in schema.get("properties", {}):
        return schema["properties"][key]
    return schema.get("additionalProperties") or (schema.get("items") if key.isdigit() else None)


def takes(path: Path_, value: Any) -> bool:
    """Whether the schema takes the value there."""
    return any(_validator(json.dumps(each)).is_valid(value) for each in schemas_at(path))


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**json.loads(schema), "$defs": SCHEMA["$defs"]})


def knows(path: Path_) -> set[str] | None:
    """The keys that a mapping at a path may have; None where it may have any."""
    objects = [each for each in schemas_at(path) if each.get("type") == "object" or "properties" in each]
    if not objects or any(each.get("additionalProperties") is not False for each in objects):
        return None
    return {key for each in objects for key in each["properties"]}


def required(path: Path_) -> set[str]:
    objects = [each for each in schemas_at(path) if "properties" in each]
    return set(objects[0].get("required", ())) if len(objects) == 1 else set()


# What is changed at a known place


def renamed_key(this: Text, chance: random.Random) -> Mutant | None:
    spot = chance.choice(this.keys)
    name = spot.name
    at = chance.randrange(len(name) + 1)
    others = [name[:at] + name[at + 1 :], name[:at] + "q" + name[at:], name.swapcase(), name.replace("_", "-"), f"{name}zq", name[::-1]]
    new = chance.choice([each for each in others if re.fullmatch("[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*", each)] or [f"{name}zq"])
    known = knows(spot.path[:-1])
    if new == name or new in (key.value for key, _ in spot.holder.value) or yaml.safe_load(new) != new:
        return None
    line, column = place(spot.key.start_mark)
    text = this.replaced(spot.key.start_mark.index, spot.key.end_mark.index, new)
    if known is None or new in known or not _plain(spot):
        return Mutant("a key called otherwise", text)
    return Mutant("an unknown key", text, ((line, column, column),), f'"{new}"', True)


def dropped_key(this: Text, chance: random.Random) -> Mutant | None:
    spot = chance.choice(this.keys)
    at = next(number for number, (key, _) in enumerate(spot.holder.value) if key is spot.key)
    begin, end = spot.key.start_mark.index, end_of(spot.node)
    if at + 1 < len(spot.holder.value):
        end = spot.holder.value[at + 1][0].start_mark.index
    elif at and spot.holder.flow_style:
        begin = end_of(spot.holder.value[at - 1][1])
    text = this.replaced(begin, end, "")
    if spot.name not in required(spot.path[:-1]) or not _plain(spot) or len(spot.holder.value) == 1:
        return Mutant("a key taken away", text)
    above = next((each.key for each in this.keys if each.node is spot.holder), this.root)
    where = ((*place(mark), place(mark)[1]) for mark in (above.start_mark, spot.holder.start_mark))
    return Mutant("a required key taken away", text, tuple(where), f'missing key "{spot.name}"', True)


def duplicated_key(this: Text, chance: random.Random) -> Mutant | None:
    spot = chance.choice(this.keys)
    if not _plain(spot):
        return None
    begin, end = spot.key.start_mark.index, end_of(spot.node)
    line, column = place(spot.key.start_mark)
    if end <= begin:
        return None
    if spot.holder.flow_style:
        new, where = f", {this.text[begin:end]}", (line, column, 10_000)
        if "\n" in new or begin < end == spot.node.start_mark.index:
            return None
    else:
        lines = this.text[begin:end].count("\n")
        new, where = f"\n{' ' * (column - 1)}{this.text[begin:end]}", (line + lines + 1, column, column)
    return Mutant("a key twice", this.replaced(end, end, new), (where,), "is here twice", True)


ODD = (
    *(
        "[]",
        "{}",
        "[x]",
        "[[]]",
        "{x: 1}",
        "[1, {}]",
        "null",
        "~",
        '""',
        "true",
        "no",
        "on",
        "0",
        "-1",
        "1",
        "70000",
        "65536",
        "1e9",
        "1.5",
    ),
    *("-0.0", ".nan", ".inf", "99999999999999999", "9" * 400, "2026-01-01", "12:30", "010", "0o7", "0x1F", "1_000", "'5'", '"22"', "x"),
    *(
        '"\\0"',
        '"\\x07"',
        '"\\u202e"',
        '"a\\nb"',
        '"\\t"',
        '"\\ud800"',
        '"\\U0010ffff"',
        '"\\x85"',
        '"\\uFEFFx"',
        "'😀'",
        "ﬁé",
        "'${HOME}'",
    ),
    *("../../etc/passwd", "~nobody-there/x", "/", "16 GB", "24XB", "-5s", "1.5.2", "192.0.2.300", "192.0.2.0/33", "fe80::1%", "::", "a b"),
    *("ai[1:3]", "ai[1:1000]", "ai[1:9999999]", "[1:3]", "ai[3:1]", "ai[", "'*'", "'%'", "'{{ x }}'", "'; rm'", "user@", ":22", "[::1]:0"),
    *("x" * 300, '"' + "y" * 100_000 + '"', "[" + "1, " * 3000 + "1]", "[" * 20 + "]" * 20, "{k: " * 12 + "1" + "}" * 12),
    *("https://", "http://[", "https://home.example:99999999/x.gguf", "file:///etc/passwd", "sk-x", "2.11.4-1", "llama-cpp-python==", "-"),
)


def other_value(this: Text, chance: random.Random) -> Mutant | None:
    return _valued("another value", this, chance, chance.choice(ODD))


FORBIDDEN = (
    ("!!python/object:os.system x", "tag"),
    ("!own x", "tag"),
    ("*nowhere", "is undefined"),
    ("&own [*own]", "endless loop"),
    ("12:30", ""),
    ("010", ""),
    ('"a\\nb"', "a line break"),
    ('"\\0"', "a control character"),
    ('"\\u202e"', "U+202E"),
    ("[" * 40 + "]" * 40, "nested deeper"),
)
"""What no value of an inventory may be."""


def forbidden_value(this: Text, chance: random.Random) -> Mutant | None:
    spot, (by, says) = chance.choice(this.spots), chance.choice(FORBIDDEN)
    return _at_value("a value that nothing may be", this, spot, by, says)


def _valued(kind: str, this: Text, chance: random.Random, by: str) -> Mutant | None:
    spot = chance.choice(this.spots)
    text = this.valued(spot, by)
    try:
        value = _behind(plain(compose(text)[0]), spot.path)
    except Exception:
        return Mutant(kind, text)
    if takes(spot.path, _as_json(value)) or (value is None and takes(spot.path, {})):
        return Mutant(kind, text)
    return _at_value(f"{kind}, of a wrong kind", this, spot, by, "")


def _at_value(kind: str, this: Text, spot: Spot, by: str, says: str) -> Mutant:
    text = this.valued(spot, by)
    if spot.key and spot.node.start_mark.line > spot.key.start_mark.line and spot.node.start_mark.column <= spot.key.start_mark.column:
        return Mutant(kind, text)  # a list at the left of its key, where no other value can stand
    if not _plain(spot) or _shadowed(this, spot) or spot.node.start_mark.index == spot.node.end_mark.index:
        return Mutant(kind, text)
    line, column = place(spot.node.start_mark)
    own = place((spot.key or spot.node).start_mark)
    return Mutant(kind, text, ((line, column, column + len(by)), (*own, own[1])), says, True)


def _behind(value: Any, path: Path_) -> Any:
    for key in path:
        value = value[int(key)] if isinstance(value, tuple) else value[key]
    return value


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, tuple) else value


def _plain(spot: Spot) -> bool:
    """Whether no anchor, alias or tag is at work there."""
    return spot.path[-1:] != ("<<",) and (spot.key is None or spot.key.style != "?")


def _shadowed(this: Text, spot: Spot) -> bool:
    """Whether an anchor would go with the value."""
    return bool(re.search(r"[&*]\w", this.text[spot.node.start_mark.index - 1 : end_of(spot.node)]))


REFERENCES = ("models", "model", "upstream", "clients", "client", "via", "builder", "workers", "hosts")
"""Keys whose texts name something of the inventory."""


def unknown_name(this: Text, chance: random.Random) -> Mutant | None:
    found = [each for each in this.spots if isinstance(each.node, yaml.ScalarNode) and each.node.value in this.names]
    found = [each for each in found if (each.path[-1] if each.key else each.path[-2]) in REFERENCES]
    if not found:
        return None
    spot = chance.choice(found)
    by = chance.choice(("nobodyzq", "zq-0", f"{re.split('[][]', spot.node.value)[0]}zq"))
    return _at_value("a name of nobody", this, spot, by, f'"{by}"')


def unknown_option(this: Text, chance: random.Random) -> Mutant | None:
    found = [each for each in this.keys if each.path[-2:-1] == ("preset",)]
    if not found:
        return None
    spot = chance.choice(found)
    line, column = place(spot.key.start_mark)
    new = chance.choice(("no-such-option-zq", "ctx-sizes", "--temp", "Temp", "top_k", "hf-token", "0"))
    text = this.replaced(spot.key.start_mark.index, spot.key.end_mark.index, new)
    if new in (key.value for key, _ in spot.holder.value):
        return None
    return Mutant("an option that there is not", text, ((line, column, column + 300),), new if new != "0" else "")


def key_of_another_kind(this: Text, chance: random.Random) -> Mutant | None:
    spot = chance.choice(this.keys)
    new = chance.choice(("1", "on", "? [a]", "[a]", "{a: 1}", "~", "12:30", "!!str", "*nowhere", "1.5", '"\\0"', "-"))
    if not _plain(spot) or (new.startswith("?") and spot.holder.flow_style):
        return None
    line, column = place(spot.key.start_mark)
    text = this.replaced(spot.key.start_mark.index, spot.key.end_mark.index, new)
    return (
        Mutant("a key of another kind", text, ((line, column, column + len(new)),))
        if new in ("1", "1.5", "on")
        else Mutant("an odd key", text)
    )


# Mistakes of YAML


KEY = re.compile(r"( *(?:- )*)([A-Za-z0-9_.-]+):(?= |$)")
QUOTED = re.compile(r'(?<=[ \[{,])"[^"\\]*"')


def _in_line(this: Text, pattern: re.Pattern[str], chance: random.Random) -> tuple[int, re.Match[str]] | None:
    found = [
        (number, each)
        for number, line in enumerate(this.lines)
        if not line.lstrip().startswith("#")
        for each in (pattern.finditer(line.partition(" #")[0]))
    ]
    return chance.choice(found) if found else None


def _with_line(this: Text, number: int, line: str) -> str:
    return "\n".join([*this.lines[:number], line, *this.lines[number + 1 :]])


def missing_colon(this: Text, chance: random.Random) -> Mutant | None:
    found = _in_line(this, re.compile("^" + KEY.pattern), chance)
    if not found or this.text.lstrip().startswith("{"):
        return None
    number, match = found
    line = this.lines[number]
    cut = match.end() - 1 if chance.random() < 0.5 or line[match.end() :].strip() == "" else match.end()
    if cut == match.end() and not re.match(" [^ #]", line[cut:]):
        return None
    return Mutant(
        "a key without its colon" if cut < match.end() else "a colon without its space",
        _with_line(this, number, line[:cut] + line[cut + 1 :]),
        ((number + 1, 1, len(line) + 1),),
        "",
        False,
    )


def open_quote(this: Text, chance: random.Random) -> Mutant | None:
    found = _in_line(this, QUOTED, chance)
    if not found:
        return None
    number, match = found
    line = this.lines[number]
    return Mutant(
        "a quote that is not closed",
        _with_line(this, number, line[: match.end() - 1] + line[match.end() :]),
        ((number + 1, 1, len(line) + 1),),
    )


def open_bracket(this: Text, chance: random.Random) -> Mutant | None:
    flows = [each for each in [*this.spots] if isinstance(each.node, yaml.CollectionNode) and each.node.flow_style]
    if not flows:
        return None
    node = chance.choice(flows).node
    end = node.end_mark.index
    around = [each.node for each in flows if each.node.start_mark.index <= node.start_mark.index and end <= each.node.end_mark.index]
    where = [place(each.start_mark) for each in (this.root, *around)]
    last = place(node.end_mark)
    at = (*((*each, each[1]) for each in where), (last[0], last[1] - 1, last[1]))  # `{, x` lacks a value too
    return Mutant("a bracket that is not closed", this.replaced(end - 1, end, ""), at)


def tab(this: Text, chance: random.Random) -> Mutant | None:
    found = [number for number, line in enumerate(this.lines) if re.match(" +[^ #]", line)]
    if not found:
        return None
    number = chance.choice(found)
    line = this.lines[number]
    depth = len(line) - len(line.lstrip())
    cut = chance.randrange(depth)
    return Mutant("a tab", _with_line(this, number, line[:cut] + "\t" + line[depth:]), ((number + 1, cut + 1, cut + 1),), "a tab indents")


def indentation(this: Text, chance: random.Random) -> Mutant | None:
    number = chance.randrange(len(this.lines))
    line = this.lines[number]
    other = chance.randrange(len(this.lines))
    match chance.randrange(4):
        case 0:
            return Mutant("deeper", _with_line(this, number, " " * chance.randint(1, 5) + line))
        case 1:
            return Mutant("less deep", _with_line(this, number, line.removeprefix(" " * chance.randint(1, 3))))
        case 2:
            lines = list(this.lines)
            lines[number], lines[other] = lines[other], lines[number]
            return Mutant("two lines changed about", "\n".join(lines))
    return Mutant("a line without its end", "\n".join(this.lines[:number]) + " " + "\n".join(this.lines[number:]))


RAW = ("\x00", "\x07", "\x1b[31m", "\x7f", "\ufffe", "\x85", "\u2028", "\u202e", "\ufeff", "\u200f", "\r", "\u00a0", "😀", "é")


def character(this: Text, chance: random.Random) -> Mutant | None:
    at, new = chance.randrange(len(this.text) + 1), chance.choice(RAW)
    text = this.replaced(at, at, new)
    if new[0] in "\x00\x07\x1b\x7f\ufffe\x85\u2028":
        line, column = this.text[:at].count("\n") + 1, at - this.text.rfind("\n", 0, at)
        return Mutant("a character that no text has", text, ((line, column, column),), "U+", True)
    return Mutant("a character", text)


PIECES = (
    "---",
    "...",
    "%YAML 1.2",
    "<<: *x",
    "<<: {a: 1}",
    "<<: x",
    "? ",
    "- ",
    "key",
    ": ",
    "&a",
    "*a",
    "|",
    ">",
    "#",
    "}",
    "]",
    "@",
    "`x",
    "x: y: z",
)


def piece(this: Text, chance: random.Random) -> Mutant | None:
    """A line, or a piece of one, that has nothing to do there."""
    number, new = chance.randrange(len(this.lines)), chance.choice(PIECES)
    line = this.lines[number]
    depth = len(line) - len(line.lstrip())
    if chance.random() < 0.5:
        return Mutant("a line more", "\n".join([*this.lines[:number], " " * depth + new, *this.lines[number:]]))
    at = chance.randrange(len(line) + 1)
    return Mutant("a piece more", _with_line(this, number, line[:at] + new + line[at:]))


def bomb(this: Text, chance: random.Random) -> Mutant | None:
    """Aliases of aliases, or a mapping that is merged and merged again."""
    width, depth = chance.choice((2, 9, 30)), chance.choice((3, 9, 25))
    opening, item, closing = chance.choice((("[", "{0}", "]"), ("{{", "k{1}: {0}", "}}")))
    lines = ["zq0: &zq0 x"]
    for number in range(1, depth):
        items = ", ".join(item.format(f"*zq{number - 1}", each) for each in range(width))
        lines.append(f"zq{number}: &zq{number} {opening[0]}{items}{closing[0]}")
    if chance.random() < 0.5:
        lines = [
            "zq0: &zq0 {user: ann}",
            *(f"zq{each}: &zq{each} {{<<: [{', '.join([f'*zq{each - 1}'] * width)}]}}" for each in range(1, depth)),
        ]
    if this.text.lstrip().startswith("{"):
        return None
    return (
        Mutant("aliases of aliases", "\n".join([*lines, this.text]), ((1, 1, 1),), "zq0", False)
        if width**depth < 100_000
        else Mutant("aliases of aliases", "\n".join([*lines, this.text]), refused=True)
    )


def many_hosts(this: Text, chance: random.Random) -> Mutant | None:
    """A host's name made a range."""
    spot = chance.choice([each for each in this.keys if each.path[:1] == ("hosts",) and len(each.path) == 2])
    new = chance.choice(
        ("zq[1:3]", "zq[1:1024]", "zq[1:1025]", "zq[01:1]", "zq[3:1]", "zq[", "zq]x", "zq[1:3][1:3]", "zq[a:b]", "zq[1:999999999]")
    )
    line, column = place(spot.key.start_mark)
    address = next((each for each in this.keys if each.path == (*spot.path, "address")), None)
    where = [(line, column, column)] + ([(*place(address.node.start_mark), place(address.node.start_mark)[1])] if address else [])
    where = [(line, first, last + len(new) + 2) for line, first, last in where]
    quoted = f'"{new}"' if spot.holder.flow_style or spot.key.style else new
    return Mutant("a range of hosts", this.replaced(spot.key.start_mark.index, spot.key.end_mark.index, quoted), tuple(where), "", True)


def swapped(this: Text, chance: random.Random) -> Mutant | None:
    """A value in the place of another."""
    one, other = chance.choice(this.spots), chance.choice(this.spots)
    new = this.text[other.node.start_mark.index : end_of(other.node)]
    return Mutant("a value of somewhere else", this.valued(one, new)) if "\n" not in new else None


AT_A_PLACE: tuple[Callable[[Text, random.Random], Mutant | None], ...] = (
    *(
        renamed_key,
        renamed_key,
        dropped_key,
        dropped_key,
        duplicated_key,
        other_value,
        other_value,
        other_value,
        other_value,
        forbidden_value,
    ),
    *(unknown_name, unknown_name, unknown_option, key_of_another_kind, missing_colon, open_quote, open_bracket, tab, indentation),
    *(character, piece, bomb, many_hosts, swapped),
)


def at_a_place(texts: list[Text], chance: random.Random) -> Mutant:
    """One mistake where it is known; in one of eight several, where it is not."""
    while True:
        this = chance.choice(texts)
        mutant = chance.choice(AT_A_PLACE)(this, chance)
        if mutant is None:
            continue
        if chance.random() < 7 / 8:
            return mutant
        for _ in range(0 if mutant.kind == "aliases of aliases" else chance.randint(1, 3)):
            try:
                again = chance.choice(AT_A_PLACE)(Text(mutant.text), chance)
            except Exception:  # it is no YAML any more, or no inventory
                break
            mutant = again or mutant
        return Mutant("several at once", mutant.text)


# Bytes


def of_bytes(all_of_them: list[bytes], chance: random.Random) -> tuple[str, bytes]:
    """What was done, and what came of it."""
    data = bytearray(chance.choice(all_of_them))
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 4, 40, 400)))
    kind = chance.choice(("flip", "insert", "delete", "duplicate", "truncate", "splice", "random", "several", "encoding", "line ends"))
    match kind:
        case "flip":
            for _ in range(chance.choice((1, 3, 30))):
                if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "insert":
            data[at:at] = chance.randbytes(chance.choice((1, 2, 30)))
        case "delete":
            del data[at:end]
        case "duplicate":
            data[at:at] = data[at:end] * chance.choice((1, 2, 1000))
        case "truncate":
            del data[at:]
        case "splice":
            other = chance.choice(all_of_them)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        case "random":
            data = bytearray(chance.randbytes(chance.choice((0, 1, 20, 4000))))
        case "several":
            for _ in range(chance.randint(2, 6)):
                at = chance.randrange(len(data) + 1)
                data[at : at + chance.choice((0, 1, 5, 40))] = chance.choice(
                    (*MISHAPS, bytes(data[chance.randrange(len(data) + 1) :][:30]))
                )
        case "encoding":
            text = data.decode(errors="replace")
            name = chance.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037", "latin-1"))
            data = bytearray(text.encode(name, errors="replace"))
        case "line ends":
            data = bytearray(
                bytes(data).replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\r", b"\r\r\n", b"\n\n", b"\x00", b"\x85", b" ", b"\t\n")))
            )
    return kind, bytes(data)


MISHAPS = (
    *(b"\t", b"[", b"{", b"}", b"&a ", b"*a", b"<<: ", b"!!x ", b"- ", b": ", b"? ", b'"', b"'", b"|", b"---\n", b"...", b"%", b"\x00"),
    *(b"\xff", b"1:30", b"[1:9]", b"on", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2\x85", b"\r", b"# ", b"\\", b">", b"@", b"`", b",", b"\n"),
)


def lines_of(data: bytes) -> list[str]:
    """The lines of a file as editors count them."""
    return re.split("\r\n|[\r\n]", data.decode(errors="replace").removeprefix("\ufeff"))
